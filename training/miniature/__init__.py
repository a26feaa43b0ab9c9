"""A small synthetic world with exact ground truth, in which a complete training run takes minutes."""
