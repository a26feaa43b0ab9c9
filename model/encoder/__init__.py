"""The motion encoder: what it sees of a driving clip, how that is varied in training, and its tokens."""
