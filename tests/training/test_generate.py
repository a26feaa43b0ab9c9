"""From a trained run to a video file."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from storage_schemas.lake import Lake
from storage_schemas.releases.release import Release
from storage_schemas.video import decode, probe
from training.config import TrainConfig
from training.generate import Driver, find_pipeline, generate
from training.trainer import train


def test_a_clip_comes_out_and_follows_its_driver(
    release: Release, lake: Lake, config: TrainConfig, tmp_path: Path
) -> None:
    train(release, config, tmp_path / "run")
    Image.new("RGB", (90, 120), (200, 30, 30)).save(tmp_path / "reference.png")

    def made(clip_id: str, **options: int) -> np.ndarray:
        [clip] = lake.read("clips", ["track"], f"clip_id = '{clip_id}'")
        [pose] = lake.read("poses", ["joints_2d", "hand_valid"], f"clip_id = '{clip_id}'")
        frames = decode(lake.blobs("clip_videos", "video", [clip_id])[0])
        driver = Driver(frames, clip["track"], pose["joints_2d"], pose["hand_valid"])
        out = tmp_path / "clip.mp4"
        reference, prompt = tmp_path / "reference.png", "The camera is static."
        assert generate(tmp_path / "run", reference, driver, prompt, out, steps=2, **options) == out
        facts = probe(out)
        assert (facts.width, facts.height, facts.frames) == (64, 64, 9)
        return decode(out)

    one = made("street a")
    assert (one == made("street a")).all()
    assert (one != made("rig one b", motion_guidance_scale=5)).any()
    with pytest.raises(ValueError, match="has 36 frames"):
        made("street a", start=20)


def test_an_unfinished_run_cannot_generate(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no pipeline"):
        find_pipeline(tmp_path)
