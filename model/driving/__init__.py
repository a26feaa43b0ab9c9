"""From what was found in a driving video to what controls read of it, the same in training and in generation."""
