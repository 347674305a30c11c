"""The GPU core: networks as pure functions of tensors; no files, no command line."""
