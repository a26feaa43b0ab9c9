"""Sizes that the tiny base models of all families share."""

LATENT_CHANNELS, TEXT_DIM = 8, 32
HEADS, HEAD_DIM, LAYERS = 4, 24, 4
VOCABULARY = 512
