"""Scores on pictures with known results."""

import cv2
import numpy as np

from opendimo.pipelines.clips.scores import Scores, flow_length, perceptual_hash


def texture(seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(200, 300)).astype(np.float32)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def bits_apart(a: str, b: str) -> int:
    return (int(a, 16) ^ int(b, 16)).bit_count()


def test_flow_of_a_shifted_picture_is_the_shift_over_the_diagonal() -> None:
    wide = texture()
    length = flow_length(wide[20:180, 20:260], wide[18:178, 23:263])
    assert np.isclose(np.median(length), np.hypot(3, 2) / np.hypot(160, 240), rtol=0.05)


def test_motion_is_that_of_the_background_and_subject_motion_that_of_the_person() -> None:
    before = texture()
    after = before.copy()
    after[50:150, 100:200] = before[50:150, 104:204]  # only the person moves, by 4 pixels
    scores = Scores()
    scores.add(0, after, before, [np.array([90, 40, 210, 160], np.float32)])
    values = scores.over(range(1))
    assert values["motion"] < 1e-4
    assert 2 / np.hypot(200, 300) < values["subject_motion"] < 5 / np.hypot(200, 300)


def test_a_box_over_the_whole_frame_leaves_the_motion_of_the_frame() -> None:
    wide = texture()
    scores = Scores()
    scores.add(0, wide[:, 3:283], wide[:, :280], [np.array([0, 0, 280, 200], np.float32)])
    assert np.isclose(scores.over(range(1))["motion"], 3 / np.hypot(200, 280), rtol=0.05)


def test_blur_lowers_sharpness_and_a_darker_picture_exposure() -> None:
    sharp, soft, dark = Scores(), Scores(), Scores()
    picture = texture()
    sharp.add(0, picture, None, [])
    soft.add(0, cv2.GaussianBlur(picture, (0, 0), 4), None, [])
    dark.add(0, picture // 4, None, [])
    assert soft.over(range(1))["sharpness"] < sharp.over(range(1))["sharpness"] / 3
    assert np.isclose(sharp.over(range(1))["exposure"], picture.mean() / 255)
    assert np.isclose(dark.over(range(1))["exposure"], sharp.over(range(1))["exposure"] / 4, atol=0.01)


def test_the_hash_survives_scaling_and_light_and_tells_pictures_apart() -> None:
    picture = texture()
    changed = cv2.resize(cv2.convertScaleAbs(picture, alpha=0.9, beta=10), (150, 100), interpolation=cv2.INTER_AREA)
    assert len(perceptual_hash(picture)) == 16
    assert bits_apart(perceptual_hash(picture), perceptual_hash(changed)) <= 4
    others = [bits_apart(perceptual_hash(picture), perceptual_hash(texture(seed))) for seed in range(1, 9)]
    assert min(others) > 12
