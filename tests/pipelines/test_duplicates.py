"""Duplicates: modified copies of real clips are found with the right evidence, different clips are not matched."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opendimo.pipelines.quality.policy import Policy
from opendimo.pipelines.quality.verdicts import kept_clips
from opendimo.pipelines.quality.verdicts import verdicts as judge
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.rows import Row
from tests.pipelines import duplicate_clips as made

CAMERAS = ("static", "shake", "pan_right", "tilt_up", "zoom_in", "roll_cw", "pan_left_tilt_down")


@pytest.fixture(scope="module")
def footage(data: Path) -> dict[str, tuple[np.ndarray, float]]:
    """Return pictures and frame rate of the originals; for two dancers, two windows without common frames."""
    found = {"juggle": (made.pictures(data / "internet/juggle_static_fullbody.mp4", 100), 24.0)}
    found["cups"] = made.pictures(data / "internet/cups_hands_static.mp4", 100), 30.0
    for name, file in (("balloon", "dance_balloon_static"), ("indoor", "generated_dance_indoor")):
        images = made.pictures(data / f"internet/{file}.mp4", 220)
        found |= {f"{name} 0": (images[:100], 30.0), f"{name} 1": (images[120:], 30.0)}
    for name in CAMERAS:
        found[f"camera {name}"] = made.pictures(data / f"internet/virtual_camera/{name}.mp4", 96), 24.0
    return found


@pytest.fixture(scope="module")
def planted(footage: dict[str, tuple[np.ndarray, float]]) -> dict[str, tuple[np.ndarray, float]]:
    """Return copies by their modification; `of` is the name's first word."""
    copies = {}
    for of in ("juggle", "cups", "balloon 0", "indoor 1"):
        images, fps = footage[of]
        height, width = images.shape[1:3]
        changed = {
            "re-encoded": made.encoded(images, fps, crf=38),
            "resized": made.encoded(made.scaled(images, width // 2, height // 2), fps),
            "squeezed": made.encoded(made.scaled(images, height, height), fps),
            "trimmed": made.encoded(images[23:], fps),
            "cropped": made.encoded(made.cropped(images, 0.05, 0.05, 0.05, 0.05), fps),
            "without the bottom": made.encoded(made.cropped(images, 0, 0.1, 0, 0), fps),
            "boxed": made.encoded(made.boxed(images, 0.12), fps),
            "mirrored": made.encoded(images[:, :, ::-1], fps),
            "slower": made.encoded(images[::2], fps / 2),
        }
        if of in ("cups", "balloon 0"):  # a few modifications of each are enough
            changed = {how: changed[how] for how in ("re-encoded", "trimmed", "mirrored")}
        copies |= {f"{of}, {how}": (found, fps / 2 if how == "slower" else fps) for how, found in changed.items()}
    return copies


@pytest.fixture(scope="module")
def lake(
    tmp_path_factory: pytest.TempPathFactory,
    footage: dict[str, tuple[np.ndarray, float]],
    planted: dict[str, tuple[np.ndarray, float]],
) -> Lake:
    """A lake in which all clips were compared; originals have the most pixels."""
    lake = Lake(tmp_path_factory.mktemp("duplicates"))
    large = {"source_width": 1920, "source_height": 1080}
    clips = [made.clip(name, images, fps, **large) for name, (images, fps) in footage.items()]
    clips += [made.clip(name, images, fps) for name, (images, fps) in planted.items()]
    clips.append(made.clip("juggle, re-muxed", *footage["juggle"], video_sha256="bytes juggle"))
    made.add(lake, clips)
    made.compare(lake)
    return lake


def verdicts(lake: Lake, policy: Policy | None = None) -> dict[str, str | None]:
    found = judge(lake, policy or Policy())
    return dict(zip(found["clip_id"].to_pylist(), found["reason"].to_pylist(), strict=True))


def test_every_planted_copy_is_left_out_but_mirrored_ones(lake: Lake, planted: dict[str, Any]) -> None:
    reasons = verdicts(lake)
    assert {name: reasons[name] for name in planted} == {
        name: None if name.endswith("mirrored") else "duplicate" for name in planted
    }
    assert reasons["juggle, re-muxed"] == "duplicate"


def test_different_clips_of_one_dancer_and_other_cameras_are_kept(lake: Lake, footage: dict[str, Any]) -> None:
    reasons = verdicts(lake)
    assert {name: reasons[name] for name in footage} == dict.fromkeys(footage)


def test_mirrored_copies_are_told_apart_and_can_be_left_out(lake: Lake, planted: dict[str, Any]) -> None:
    for row in lake.read("duplicates", where="other_clip_id IS NOT NULL AND similarity > 0.9"):
        pair = row["clip_id"], row["other_clip_id"]
        assert row["mirrored"] == (sum(name.endswith("mirrored") for name in pair) == 1), pair
    strict = verdicts(lake, Policy(keep_mirrored=False))
    assert {name for name in planted if strict[name] is None} == set()


def evidence(lake: Lake, clip_id: str, of: str) -> Row:
    [row] = lake.read("duplicates", where=f"clip_id = '{clip_id}' AND other_clip_id = '{of}'")
    [back] = lake.read("duplicates", where=f"clip_id = '{of}' AND other_clip_id = '{clip_id}'")
    same = set(row) - {"clip_id", "other_clip_id", "duplicate_id", "work_key"}
    assert {name: row[name] for name in same} == {name: back[name] for name in same}
    return row


@pytest.mark.parametrize("of", ["juggle", "cups", "balloon 0", "indoor 1"])
def test_the_evidence_says_where_the_footage_is(lake: Lake, of: str) -> None:
    trimmed = evidence(lake, f"{of}, trimmed", of)
    assert trimmed["representative_id"] == of and trimmed["kind"] == "copy"
    assert abs(trimmed["offset_frames"] - 23) <= 1
    assert trimmed["share"] > 0.95 and trimmed["similarity"] > 0.9 and trimmed["distance"] <= 4
    assert trimmed["start_frame"] == 0 and 74 <= trimmed["end_frame"] <= 77


def test_a_part_of_a_larger_picture_is_not_left_out_whole(lake: Lake) -> None:
    row = evidence(lake, "juggle, re-encoded", "juggle, trimmed")
    assert row["representative_id"] == "juggle, re-encoded"  # same size: the longer one is kept


def test_a_re_mux_is_known_by_its_bytes(lake: Lake) -> None:
    row = evidence(lake, "juggle, re-muxed", "juggle")
    assert (row["kind"], row["share"], row["mirrored"], row["offset_frames"]) == ("stream", 1.0, False, 0)


def test_a_new_threshold_is_another_answer_of_the_same_rows(lake: Lake) -> None:
    version = lake.dataset("duplicates").version
    lenient = kept_clips(lake, Policy(duplicate_similarity=2.0))
    assert lenient.num_rows == lake.dataset("clips").count_rows()
    assert lake.dataset("duplicates").version == version


def test_clips_of_one_capture_are_no_copies(tmp_path: Path, footage: dict[str, tuple[np.ndarray, float]]) -> None:
    lake = Lake(tmp_path)
    images, fps = footage["juggle"]
    views = [made.clip(view, images, fps, capture_id="take", view=view) for view in ("left", "right")]
    spans = [made.clip(f"span {k}", images, fps, source_id="file") for k in range(2)]
    made.add(lake, views)
    assert made.compare(lake) == []
    made.add(lake, spans, "spans")
    pairs = {frozenset((r["clip_id"], r["other_clip_id"])) for r in made.compare(lake, "compare spans")}
    assert frozenset(("span 0", "span 1")) not in pairs and frozenset(("left", "span 0")) in pairs


def test_what_comes_later_is_compared_with_what_was_there(
    tmp_path: Path, footage: dict[str, tuple[np.ndarray, float]]
) -> None:
    lake = Lake(tmp_path)
    images, fps = footage["cups"]
    made.add(lake, [made.clip("first", images, fps)])
    assert made.compare(lake) == []
    before = lake.read("duplicates")
    made.add(lake, [made.clip("larger", images, fps, source_width=4000)], "second clips")
    [row] = made.compare(lake, "second")
    assert (row["clip_id"], row["representative_id"]) == ("larger", "larger")
    assert verdicts(lake) == {"first": "duplicate", "larger": None}
    assert [row for row in lake.read("duplicates") if row["clip_id"] == "first"] == before


def test_a_still_picture_is_no_evidence(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    noise = np.random.default_rng(0).integers(0, 255, (9, 16, 3)).astype(np.uint8)
    still = made.scaled(np.stack([noise] * 60), 160, 90)
    made.add(lake, [made.clip("a", still, 24), made.clip("b", still, 24)])
    assert made.compare(lake) == []
    assert lake.dataset("duplicates").count_rows() == 2  # one row each, which marks the work as done
