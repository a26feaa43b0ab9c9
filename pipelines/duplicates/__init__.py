"""Detect near-duplicates: clips that show the same footage, by the appearance and the changes of their pictures."""
