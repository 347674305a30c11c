"""Coders of a plane of quantised values: adaptive, with a fitted prior, palette; their tables (data)."""
