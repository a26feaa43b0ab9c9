"""Pipeline functions for generation and evaluation: driving videos, samples, joints and camera moves of a clip."""
