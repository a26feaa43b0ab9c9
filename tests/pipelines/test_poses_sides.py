"""Left and right of landmarks over a clip, and the smoothness of the fitted motion."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from opendimo.model.body.load import Body, load_body
from opendimo.pipelines.poses.landmarks import Landmarks
from opendimo.pipelines.poses.motion import Motion, smoothed
from opendimo.pipelines.poses.sides import LOWER, UPPER, settle_sides

FRAMES = 40


def walker() -> Landmarks:
    """Return landmarks of a person whose points swing smoothly about places on both sides."""
    random = np.random.default_rng(0)
    rest = random.uniform(-0.5, 0.5, (33, 3))
    for left, right in UPPER + LOWER:
        rest[left, 0], rest[right, 0] = 0.2, -0.2
    swing = 0.1 * np.sin(np.arange(FRAMES)[:, None, None] / 5 + random.uniform(0, 6, (1, 33, 3)))
    world = np.float32(rest + swing)
    landmarks = Landmarks.nothing(FRAMES)
    body = np.concatenate([300 + 200 * world[..., :2], world[..., 2:], np.ones((FRAMES, 33, 1))], -1)
    found = np.ones(FRAMES, bool)
    return replace(landmarks, body=np.float32(body), world=world, body_found=found, world_found=found)


def exchanged(landmarks: Landmarks, frames: slice, pairs: list[tuple[int, int]]) -> Landmarks:
    body, world = landmarks.body.copy(), landmarks.world.copy()
    for left, right in pairs:
        for values in (body, world):
            values[frames, [left, right]] = values[frames, [right, left]]
    return replace(landmarks, body=body, world=world)


@pytest.mark.parametrize("pairs", [UPPER, LOWER, UPPER + LOWER], ids=["upper", "lower", "both"])
@pytest.mark.parametrize("frames", [slice(7, 8), slice(10, 24), slice(0, 5)], ids=["one", "long", "start"])
def test_exchanged_sides_are_set_right(frames: slice, pairs: list[tuple[int, int]]) -> None:
    true = walker()
    seen = settle_sides(exchanged(true, frames, pairs))
    assert np.array_equal(seen.body, true.body) and np.array_equal(seen.world, true.world)


def test_consistent_sides_stay_and_gaps_are_bridged() -> None:
    true = walker()
    found = np.ones(FRAMES, bool)
    found[12:15] = False
    gap = replace(true, body_found=found)
    assert settle_sides(gap) is not gap and np.array_equal(settle_sides(gap).body, true.body)
    assert np.array_equal(settle_sides(exchanged(gap, slice(15, 20), LOWER)).body, true.body)


def test_nobody_has_no_sides() -> None:
    assert not settle_sides(Landmarks.nothing(5)).body.any()


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body()


def motion_of(angles: np.ndarray, body: Body) -> Motion:
    """Return a motion whose left elbow turns by `angles` [T] about y."""
    frames = len(angles)
    pose, hands = np.zeros((frames, 21, 3)), np.zeros((frames, 2, 15, 3))
    pose[:, 17, 1] = angles
    still, betas = np.zeros((frames, 3)), np.zeros(10)
    arrays = (torch.tensor(np.float32(a)) for a in (still, pose, hands, still, betas))
    return Motion(still, pose, hands, still, betas, body.joints(*arrays).detach().numpy())


def test_smoothing_takes_noise_and_keeps_swings(body: Body) -> None:
    time = np.arange(90) / 30
    swing, noise = 0.5 * np.sin(2 * np.pi * 2 * time), 0.1 * np.random.default_rng(0).normal(size=90)
    kept = smoothed(body, motion_of(swing, body), 30.0).body_pose[:, 17, 1]
    left = smoothed(body, motion_of(noise, body), 30.0).body_pose[:, 17, 1]
    assert np.abs(kept[10:-10]).max() > 0.9 * 0.5
    second = (np.diff(values, 2).std() for values in (left, noise))
    assert next(second) < 0.25 * next(second)


def test_smoothing_follows_turns_beyond_half_a_circle(body: Body) -> None:
    spins = motion_of(np.zeros(60), body)
    turns = np.linspace(0, 4 * np.pi, 60)
    wrapped = np.stack([0 * turns, (turns + np.pi) % (2 * np.pi) - np.pi, 0 * turns], 1)
    steady = smoothed(body, replace(spins, global_orient=wrapped), 30.0)
    assert np.abs((steady.global_orient[:, 1] - wrapped[:, 1] + np.pi) % (2 * np.pi) - np.pi)[5:-5].max() < 0.02
