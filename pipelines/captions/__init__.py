"""Captions: what the camera does and what is seen, in the words the trainer reads."""
