"""Read, write and probe videos and image sequences."""
