"""Several views of one moment: rays of their cameras, attention across them, camera paths."""
