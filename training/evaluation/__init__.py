"""How good generated clips are: against the truth, the prompt's camera, and the driver's motion."""
