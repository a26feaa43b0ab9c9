"""A new motion encoder distinguishes the frames of a clip: differences it ignores at first get lost in training."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from opendimo.model.driving.crops import driving_crops
from opendimo.model.encoder.config import ENCODERS
from opendimo.model.encoder.tokens import MotionEncoder
from opendimo.pipelines.people import track_person
from opendimo.pipelines.studio import cameras
from opendimo.pipelines.studio.film import Person, film
from opendimo.pipelines.studio.motions import act
from opendimo.pipelines.studio.scene import Scene
from opendimo.storage_schemas.media.video import decode

CLIPS = ("dance_balloon_static", "generated_dance_indoor", "juggle_static_fullbody")


def spread(name: str, frames: np.ndarray, track: np.ndarray) -> float:
    """Return the standard deviation of body tokens over the frames [T, H, W, 3] of a clip, relative to their RMS.

    Averaged over seeds.
    """
    config = replace(ENCODERS[name], hands=False)
    crops = driving_crops(frames, track, None, None, config).body / 255
    spreads = []
    for seed in range(3 if name == "tiny" else 1):  # a base encoder takes seconds
        torch.manual_seed(seed)
        encoder = MotionEncoder(config).eval()
        with torch.inference_mode():
            tokens: Tensor = encoder.body(crops)  # [T, K, d]
        spreads.append(float(tokens.std(0).square().mean().sqrt() / tokens.square().mean().sqrt()))
    return float(np.mean(spreads))


@pytest.mark.parametrize("name", ["tiny", pytest.param("base", marks=pytest.mark.slow)])
def test_frames_of_real_clips_differ_by_two_percent(data: Path, name: str) -> None:
    spreads = {}
    for clip in CLIPS:
        frames = decode(data / "internet" / f"{clip}.mp4", stop=18, step=2)
        track = track_person(frames, 12.0)
        assert track is not None
        spreads[clip] = spread(name, frames, track)
    assert min(spreads.values()) > 0.02, spreads


@pytest.mark.parametrize("name", ["tiny", "base"])
def test_frames_of_the_studio_differ(name: str) -> None:
    random = np.random.default_rng(0)
    person = Person("ada", act("wave", 18, random))
    frames = np.stack([views[0] for views in film(Scene(0), [person], [cameras.static(18, 0)], (160, 90))])[::2]
    track = np.tile(np.float32([50, 0, 110, 90]), (9, 1))
    assert spread(name, frames, track) > 0.004
