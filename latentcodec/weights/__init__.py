"""Model weights: the shipped native model, its identity and its file layout."""
