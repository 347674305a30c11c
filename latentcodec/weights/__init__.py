"""Model weights: the shipped native model; other models' files, layouts, registry and local store."""
