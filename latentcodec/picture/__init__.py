"""Pillow images and files of pictures <-> Picture: planes, orientation, depth, metadata."""
