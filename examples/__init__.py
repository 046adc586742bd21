"""Whole examples that run; README.md tells of them."""
