"""The latents stage: what training reads of a clip."""
