"""Near-duplicates: clips that show the same footage, found by what their pictures look like and how they change."""
