"""The pairs stage: build training pairs and hold some of them out for testing."""
