"""Evaluate generated clips against the ground truth, the camera moves of the prompt, and the driver's motion."""
