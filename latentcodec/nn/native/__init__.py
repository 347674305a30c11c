"""The networks of the native model."""
