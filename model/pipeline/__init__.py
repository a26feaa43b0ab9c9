"""Generation in the manner of diffusers."""

from opendimo.model.pipeline.pipeline import DiMoOutput, DiMoPipeline

__all__ = ["DiMoOutput", "DiMoPipeline"]
