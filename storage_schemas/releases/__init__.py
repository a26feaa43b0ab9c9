"""Immutable releases, the input of training. `release.py` creates and opens them."""
