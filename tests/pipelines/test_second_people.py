"""Second people: they are found beside a larger one, and clips are split where they come and leave."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from opendimo.pipelines.clips.cut import ClipsConfig, clips_of
from opendimo.pipelines.clips.windows import WindowsConfig
from opendimo.pipelines.people.detector import Detector, DetectorConfig
from opendimo.pipelines.quality.policy import Policy
from opendimo.storage_schemas.media import video
from tests.pipelines.clip_sources import source_row, verdict
from tests.pipelines.test_cutting import FixedPerson, PasserBy, counted, made, number, spans

CONFIG = ClipsConfig()


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(DetectorConfig())


# splits


@pytest.mark.parametrize(
    ("frames", "present", "alone", "together"),
    [
        (53, range(28, 53), [(0, 24)], [(24, 53)]),
        (100, range(40, 60), [(0, 36), (64, 100)], [(36, 64)]),
        (100, range(28), [(32, 100)], [(0, 32)]),
        (100, range(12, 90), [], [(0, 100)]),  # what is left is too short
        (100, range(40, 52), [(0, 100)], []),  # the policy keeps it whole
    ],
)
def test_a_clip_is_split_where_a_second_person_comes_and_leaves(
    tmp_path: Path, frames: int, present: range, alone: list[tuple[int, int]], together: list[tuple[int, int]]
) -> None:
    row = source_row(made(tmp_path / "a.mp4", counted(frames)))
    rows = clips_of(row, ClipsConfig(), PasserBy(present))
    reasons = {(c["start_frame"], c["end_frame"]): verdict(c, Policy(min_sharpness=0)) for c in rows["clips"]}
    assert reasons == dict.fromkeys(alone) | dict.fromkeys(together, "several_people")
    videos = {stored["clip_id"]: video.decode(bytes(stored["video"])) for stored in rows["clip_videos"]}
    for clip in rows["clips"]:
        numbers = [number(image) for image in videos[clip["clip_id"]]]
        assert numbers == list(range(clip["start_frame"], clip["end_frame"])) and len(clip["track"]) == len(numbers)
        assert clip["text_share"] is not None and len(clip["frame_hashes"]) == -(-clip["frames"] // clip["hash_step"])


def test_pieces_that_overlapping_windows_share_are_cut_once(tmp_path: Path) -> None:
    row = source_row(made(tmp_path / "a.mp4", counted(100)))
    config = ClipsConfig(windows=WindowsConfig(max_frames=70, stride=15))
    clips = clips_of(row, config, PasserBy(range(40, 60)))["clips"]
    assert len(spans(clips)) == len(set(spans(clips))) and (64, 100) in spans(clips)
    assert {(c["start_frame"], c["end_frame"]) for c in clips if c["people"] == 1} >= {(0, 36), (64, 100)}


@pytest.mark.parametrize("kind", ["multiview", "unreal"])
def test_views_of_a_capture_are_not_split(tmp_path: Path, kind: str) -> None:
    row = source_row(made(tmp_path / "a.mp4", counted(100)), kind=kind)
    assert spans(clips_of(row, ClipsConfig(), PasserBy(range(40, 60)))["clips"]) == [(0, 100)]


class HardToSee(PasserBy):
    """A detector that finds the second person only when it looks closely."""

    glance = FixedPerson.search


def test_a_second_person_who_is_hard_to_detect_is_no_span_of_one_person(tmp_path: Path) -> None:
    row = source_row(made(tmp_path / "a.mp4", counted(200)))
    config = ClipsConfig(windows=WindowsConfig(max_second_share=0.01))
    detector = HardToSee(range(200))
    detector.again = lambda image, person: person if number(image) < 30 else None  # type: ignore[method-assign]
    clips = clips_of(row, config, detector)["clips"]
    assert len(clips) > 1 and {verdict(clip, Policy(min_sharpness=0)) for clip in clips} == {"several_people"}


# drawn and real people


def pasted(image: np.ndarray, other: np.ndarray, share: float) -> np.ndarray:
    """Paste the body of another drawn picture, in green, beside the one of `image`, `share` of its height tall."""
    (x0, y0, x1, y1), _ = body(image)
    box, mask = body(other)
    cut = other[box[1] : box[3], box[0] : box[2], [1, 0, 2]]
    scale = share * (y1 - y0) / len(cut)
    size = round(cut.shape[1] * scale), round(len(cut) * scale)
    left, top = (x0 + x1) // 2 + (x1 - x0) // 2 + round(0.35 * (y1 - y0)) - size[0] // 2, y1 - size[1]
    shown = cv2.resize(mask[box[1] : box[3], box[0] : box[2]], size) > 0
    out = image.copy()
    out[top:y1, left : left + size[0]][shown] = cv2.resize(cut, size)[shown]
    return out


def body(image: np.ndarray) -> tuple[tuple[int, int, int, int], np.ndarray]:
    """Return the box and the mask of the largest reddish area, a capsule body."""
    red = image[..., 0].astype(int) - image[..., 1:].max(-1) > 27
    closed = cv2.morphologyEx(red.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(closed)
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    x, y, width, height = (int(value) for value in stats[largest, :4])
    return (x, y, x + width, y + height), (labels == largest).astype(np.uint8)


def test_a_second_drawn_body_beside_a_larger_one_is_found(data: Path, detector: Detector) -> None:
    """The detector tends to return the most salient person only, in tiles as well."""
    job = data / "ue5/mini_bedlam2/mp4"
    clips = [video.decode(job / f"seq_{k:06d}.mp4", stop=34, size=(854, 480)) for k in (3, 1)]
    for k in (3, 17, 33):
        assert len(detector.search(pasted(clips[0][k], clips[1][k], 0.65))) == 2, k


def test_somebody_of_two_thirds_the_height_in_view_all_the_time_is_a_second_person(
    data: Path, detector: Detector, tmp_path: Path
) -> None:
    large, small = (
        video.decode(data / f"internet/{name}.mp4", stop=26, size=(854, 480))[:, :, 217:637]
        for name in ("juggle_static_fullbody", "dance_balloon_static")
    )
    beside = [np.pad(cv2.resize(image, (272, 312)), ((168, 0), (0, 0), (0, 0)), "edge") for image in small]
    images = [np.hstack(pair) for pair in zip(large, beside, strict=True)]
    (clip,) = clips_of(source_row(made(tmp_path / "a.mp4", images)), CONFIG, detector)["clips"]
    assert clip["second_share"] > 0.9 and verdict(clip, Policy()) == "several_people"
