"""Pose results of other programs, as labels: safe loaders, readers by format, and the stage that writes the labels."""
