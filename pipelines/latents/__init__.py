"""The latents stage: VAE latents and text embeddings of clips, for training."""
