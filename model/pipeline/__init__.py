"""Diffusers-style inference pipeline."""

from opendimo.model.pipeline.pipeline import DiMoOutput, DiMoPipeline

__all__ = ["DiMoOutput", "DiMoPipeline"]
