"""What generation and evaluation take from the pipeline: driving videos, samples, and what a clip shows."""
