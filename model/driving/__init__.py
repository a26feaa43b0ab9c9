"""Convert a tracked person in a driving video to control inputs, identically in training and inference."""
