"""The commands of `latentcodec train`."""
