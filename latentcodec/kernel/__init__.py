"""The compiled kernel: C functions for what numpy and PyTorch do slowly, and the same without it."""
