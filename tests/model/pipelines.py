"""Tiny pipelines and inputs for them, shared by the tests of the pipeline."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from opendimo.model.batch import Driving
from opendimo.model.dimo import DiMo
from opendimo.model.pipeline import DiMoPipeline

WINDOW = {"num_frames": 9, "frame_step": 1, "height": 32, "width": 64}
"""Training window of the tiny models: three latent frames."""


def tiny_pipeline(base: Path, dimo: DiMo, **config: Any) -> DiMoPipeline:
    pipeline = DiMoPipeline.from_base(base, dimo, **{**WINDOW, **config})
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def same_target(frames: int, samples: int = 1) -> dict[str, torch.Tensor]:
    """Return the fields of a target that is seen by the driver's camera."""
    still = torch.eye(3, 4).expand(samples, frames, 3, 4)
    K = torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]]).expand(samples, frames, 3, 3)
    known = torch.ones(samples, frames, dtype=torch.bool)
    return {"target_from_driver": still, "target_K": K, "target_ok": known}


def driving(frames: int = 9, seed: int = 0) -> Driving:
    """Return one sample of random frames and poses with all labels."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(1, frames, *shape, generator=g)

    return Driving(
        body=normal(3, 32, 32).sigmoid(),
        hands=normal(2, 3, 16, 16).sigmoid(),
        hand_ok=torch.ones(1, frames, 2, dtype=torch.bool),
        hand_boxes=0.5 * normal(2, 3).sigmoid(),
        body6d=normal(21, 6),
        hands6d=normal(2, 15, 6),
        joints_3d=normal(52, 3) + torch.tensor([0.0, 0.0, 5.0]),
        joints_2d=normal(52, 3).sigmoid(),
        landmarks_2d=normal(52, 3).sigmoid(),
        K=torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]]).expand(1, frames, 3, 3),
        **same_target(frames),
        pose_ok=torch.ones(1, frames, dtype=torch.bool),
        hands_pose_ok=torch.ones(1, frames, 2, dtype=torch.bool),
    )


def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 160, 3), dtype=np.uint8))


def sampled(pipeline: DiMoPipeline, **changes: Any) -> Any:
    """Sample two steps with a fixed seed; return latents unless `output_type` is changed."""
    arguments = {
        "reference": picture(),
        "driving": driving(),
        "prompt": "The camera arcs left.",
        "num_inference_steps": 2,
        "output_type": "latent",
        "generator": torch.Generator().manual_seed(0),
    }
    return pipeline(**{**arguments, **changes}).frames
