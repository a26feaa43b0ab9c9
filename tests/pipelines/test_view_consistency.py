"""Agreement of several views of a person, on a real rig."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from opendimo.pipelines.generation.consistency import view_consistency
from opendimo.storage_schemas.media.video import decode

WIDTH, HEIGHT = 540, 960


@pytest.fixture(scope="module")
def rig(data: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return videos [4, T, H, W, 3] of a rig at half its size, its cameras [4, 1, 3, 4] and intrinsics [4, 1, 3, 3]."""
    folder = data / "multiview" / "balance_1person_4cam"
    stated = json.loads((folder / "calib_opencv.json").read_text())["cameras"]
    videos, cameras, intrinsics = [], [], []
    for name in sorted(stated):
        camera = stated[name]
        videos.append(decode(folder / f"{name}.mp4", start=40, stop=61, step=10, size=(WIDTH, HEIGHT)))
        R, t, K = (np.array(camera[key], float) for key in ("R", "t", "K"))
        cameras.append(np.concatenate([R, t.reshape(3, 1)], axis=1)[None])
        intrinsics.append((np.diag([WIDTH / 1088, HEIGHT / 1920, 1]) @ K)[None])
    return np.stack(videos), np.stack(cameras), np.stack(intrinsics)


def test_synchronous_videos_of_a_person_agree(rig: tuple[np.ndarray, ...]) -> None:
    videos, cameras, K = rig
    found = view_consistency(videos, Fraction(6), cameras, K)
    assert found.views == 4 and found.share < 0.03
    assert "over 4 views" in str(found)


def test_videos_of_other_cameras_do_not(rig: tuple[np.ndarray, ...]) -> None:
    videos, cameras, K = rig
    right, wrong = (view_consistency(v, Fraction(6), cameras, K) for v in (videos, videos[[1, 2, 3, 0]]))
    assert wrong.share > 3 * right.share


def test_views_without_a_person_are_not_measured(rig: tuple[np.ndarray, ...]) -> None:
    videos, cameras, K = rig
    nobody = np.zeros_like(videos)
    nobody[0] = videos[0]
    found = view_consistency(nobody, Fraction(6), cameras, K)
    assert found.views == 1 and "not measured" in str(found)
