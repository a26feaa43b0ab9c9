"""The motion encoder: config, augmentation of its input, tokenizers, and loading of published weights."""
