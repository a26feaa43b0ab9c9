"""Measure in how many frames of a clip hands can be seen."""
