"""A small release with cameras around the person, and an untrained pipeline."""

from pathlib import Path

import numpy as np
import torch

from opendimo.model.dimo import DiMo, DiMoConfig
from opendimo.model.pipeline import DiMoPipeline
from opendimo.model.tiny import make_tiny_base
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.releases.release import Release, create_release, open_release
from tests.training.conftest import FRAMES, SIZE, fill

APART = 60.0
"""Azimuth gap in degrees between views a and b."""


def camera(azimuth: float) -> dict[str, object]:
    """Return the columns of a clip whose camera looks at the origin from a distance of 4 metres; +y is down."""
    a = np.radians(azimuth)
    position = 4 * np.array([np.sin(a), 0, np.cos(a)])
    forward = -position / 4
    right = np.cross([0, 1, 0], forward)
    rotation = np.stack([right, np.cross(forward, right), forward])
    pose = np.concatenate([rotation, -rotation @ position[:, None]], axis=1)
    # long focal length: the azimuth hardly depends on where in the frame the person is
    K = np.array([[2000, 0, SIZE / 2], [0, 2000, SIZE / 2], [0, 0, 1]])
    return {"world_to_camera": np.tile(pose, (FRAMES, 1, 1)), "K": np.tile(K, (FRAMES, 1, 1)), "metric": True}


def small_release(root: Path) -> tuple[Release, Path]:
    """Create the release `small@1` in the lake ROOT/lake; return it and the base model."""
    base, lake = make_tiny_base(root / "base"), Lake(root / "lake")
    fill(lake, base, {"a": camera(10), "b": camera(10 + APART)})
    return open_release(lake.uri, create_release(lake, "small")["release_id"]), base


def small_pipeline(base: Path, out: Path, seed: int = 0, **config: object) -> Path:
    """Write a pipeline with random weights to the output folder `out` of a run."""
    torch.manual_seed(seed)
    dimo = DiMo.from_base(base, DiMoConfig.tiny())
    for block in dimo.transformer.blocks:
        torch.nn.init.normal_(block.motion.to_out.weight, std=0.3)
    window = {"num_frames": 9, "frame_step": 2, "height": 64, "width": 64, "training": {"release": "small@1"}}
    DiMoPipeline.from_base(base, dimo, **{**window, **config}).save_pretrained(out / "pipeline")
    return out
