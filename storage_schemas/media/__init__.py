"""Video and image sequences: reading, writing, probing."""
