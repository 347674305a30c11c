"""The native model's halves of encoder and decoder."""
