"""Shots: cuts are correct, no frame is lost, and few frames are buffered."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from opendimo.pipelines.clips.frame import Frame
from opendimo.pipelines.clips.shots import DISTURBED, ShotsConfig, by_content
from opendimo.pipelines.clips.windows import shots
from tests.benchmarks.made_shots import AT, BORDER, DISTURBANCES, FRAMES, JOINS, SIZE, made_set, read_takes


def scene(seed: int, frames: int, speed: int = 0) -> list[np.ndarray]:
    """Return pictures [36, 64, 3] of blocks that move by `speed` pixels per frame."""
    blocks = np.random.default_rng(seed).integers(0, 255, (6, 40, 3)).astype(np.uint8)
    wide = blocks.repeat(6, axis=0).repeat(6, axis=1)  # [36, 240, 3]
    return [np.ascontiguousarray(wide[:, k * speed % 170 :][:, :64]) for k in range(frames)]


def numbers(images: list[np.ndarray], margin: int = 0) -> list[list[int]]:
    frames = (Frame(k, None, image) for k, image in enumerate(images))
    return [[f.number for f in shot] for shot in shots(by_content(frames, ShotsConfig()), margin)]


def test_cuts_are_found_at_their_frames() -> None:
    got = numbers(scene(1, 23, speed=1) + scene(2, 31, speed=1) + scene(3, 12, speed=1))
    assert [(s[0], s[-1] + 1) for s in got] == [(0, 23), (23, 54), (54, 66)]


def test_a_fast_camera_is_no_cut() -> None:
    assert len(numbers(scene(1, 40, speed=4))) == 1


def test_frames_about_a_cut_are_left_out_but_not_those_at_the_ends_of_the_video() -> None:
    got = numbers(scene(1, 23) + scene(2, 31) + scene(3, 12), margin=3)
    assert [(s[0], s[-1] + 1) for s in got] == [(0, 20), (26, 51), (57, 66)]


def test_a_shot_within_its_margins_is_left_out() -> None:
    marked = [(k in (20, 25), k) for k in range(40)]
    assert [(s[0], s[-1] + 1) for s in map(list, shots(marked, 3))] == [(0, 17), (28, 40)]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4])
def test_every_frame_is_in_one_span_however_short_the_video(count: int) -> None:
    assert [n for span in numbers(scene(1, count)) for n in span] == list(range(count))


def test_only_a_few_frames_are_read_ahead() -> None:
    read = []

    def reading():
        for k, image in enumerate(scene(1, 50)):
            read.append(k)
            yield Frame(k, None, image)

    shot = next(shots(by_content(reading(), ShotsConfig()), margin=2))
    for frame in shot:
        assert len(read) - frame.number <= DISTURBED + 6


@pytest.fixture(scope="module")
def takes() -> dict[str, np.ndarray]:
    """Six takes of smooth random pictures in which a camera drifts."""
    width, height = (side + 2 * BORDER for side in SIZE)
    made = {}
    for seed in range(6):
        noise = np.random.default_rng(seed).integers(0, 255, (height // 16, width // 12, 3), np.uint8)
        wide = cv2.resize(noise, (width + 100, height), interpolation=cv2.INTER_CUBIC)
        folder = "multiview/rig" if seed < 2 else f"internet/{seed}"
        made[f"{folder}/{seed}.mp4"] = np.stack([wide[:, t : t + width] for t in range(FRAMES + 30)])
    return made


@pytest.mark.parametrize("kind", DISTURBANCES)
def test_a_disturbance_is_no_cut(kind: str, takes: dict[str, np.ndarray]) -> None:
    for made in made_set({kind: DISTURBANCES[kind]}, 6, takes):
        assert len(numbers(list(made.frames))) == 1


@pytest.mark.parametrize("kind", JOINS)
def test_a_join_is_a_cut_even_where_something_is_the_same(kind: str, takes: dict[str, np.ndarray]) -> None:
    for made in made_set({kind: JOINS[kind]}, 6, takes):
        assert [shot[0] for shot in numbers(list(made.frames))] == [0, *made.cuts]


def test_a_join_next_to_a_flash_is_found(takes: dict[str, np.ndarray]) -> None:
    [made] = made_set({"other scene": JOINS["other scene"]}, 1, takes)
    made.frames[AT - 4] = 255
    assert [shot[0] for shot in numbers(list(made.frames))] == [0, AT]


def test_on_real_clips_few_cuts_are_false_and_few_are_missed(data: Path) -> None:
    takes = read_takes(data, ["internet/virtual_camera/static.mp4", "multiview/desk_board_4cam/*.mp4"])
    for kinds in (JOINS, DISTURBANCES):
        wrong = [made.kind for made in made_set(kinds, 12, takes) if _starts(made.frames) != made.cuts]
        assert len(wrong) <= 1, wrong


def _starts(frames: np.ndarray) -> tuple[int, ...]:
    return tuple(shot[0] for shot in numbers(list(frames))[1:])
