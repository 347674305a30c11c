"""Shipped integer tables (data)."""
