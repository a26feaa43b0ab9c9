"""The clips stage: from a source item to clips, in one decoding pass."""
