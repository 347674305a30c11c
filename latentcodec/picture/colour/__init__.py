"""What colours mean: ICC profiles, code points, and what files say instead."""
