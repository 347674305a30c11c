"""PyTorch's own files, as descriptions of the tensors in them: archives, pickles, what calls in them mean."""
