"""Immutable releases: what training reads. `release.py` makes and opens them."""
