"""Stages, release reader, objective, trainer, checkpoints, metrics."""
