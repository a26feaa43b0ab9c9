"""Training: stage schedule, release reader, losses, trainer, checkpoints, metrics, generation and evaluation."""
