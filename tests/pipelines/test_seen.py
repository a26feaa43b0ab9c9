"""Joints and camera moves measured for the evaluation of generated clips, on real footage and synthetic pictures."""

from pathlib import Path

import numpy as np

from opendimo.pipelines.generation.driving import find_person, read_video
from opendimo.pipelines.generation.seen import camera_moves, joint_finder


def texture(frames: int, per_frame: int) -> np.ndarray:
    """Return pictures [T, 120, 160, 3] of smooth blobs that move to the left."""
    rng = np.random.default_rng(0)
    blobs = rng.integers(0, 255, (30, 120), dtype=np.uint8).repeat(4, axis=0).repeat(4, axis=1)
    return np.stack([np.repeat(blobs[:, per_frame * t : per_frame * t + 160, None], 3, axis=2) for t in range(frames)])


def test_joints_are_found_where_the_person_is(data: Path) -> None:
    frames, fps = read_video(data / "internet" / "dance_balloon_static.mp4", 3)
    person = find_person(frames, float(fps))
    joints = joint_finder()(frames, person["track"])
    assert joints.shape == (3, 52, 3)
    assert (joints[:, :22, 2] > 0).mean() > 0.5  # spine and collars have no landmarks
    left, top, right, bottom = person["track"].T
    margin = 0.1 * (bottom - top)
    x, y, seen = joints[:, :22].transpose(2, 1, 0)  # [22, T]
    inside = (x > left - margin) & (x < right + margin) & (y > top - margin) & (y < bottom + margin)
    assert inside[seen > 0].all()
    head, foot = joints[:, 15, 1], joints[:, 10, 1]
    assert (head < top + 2.5 * margin).all() and (foot > bottom - 2.5 * margin).all()


def test_nobody_has_no_joints() -> None:
    joints = joint_finder()(np.zeros((2, 64, 64, 3), np.uint8), np.array([[0, 0, 64, 64]] * 2, np.float32))
    assert not joints[..., 2].any()


def test_a_camera_is_named_by_what_its_background_does() -> None:
    nothing = np.full((24, 4), np.nan)
    assert camera_moves(texture(24, 0), 12.0, nothing, None) == {"static"}
    assert camera_moves(texture(24, 4), 12.0, nothing, None) == {"pan_right"}
    assert camera_moves(np.full((24, 120, 160, 3), 99, np.uint8), 12.0, nothing, None) == set()
