"""Image <-> bytes."""
