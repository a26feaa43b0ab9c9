"""The clips stage: cut source items into clips in one decoding pass."""
