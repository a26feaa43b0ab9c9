"""Which clips are good enough."""
