"""Decide which clips are good enough, by thresholds on stored scores."""
