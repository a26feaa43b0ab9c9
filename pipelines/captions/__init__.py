"""Write captions for training: a camera sentence and a content sentence per clip."""
