"""Verdicts on clips: every reason, and that a new policy needs no recomputation."""

from pathlib import Path

import numpy as np
import pytest

from opendimo.pipelines.quality.policy import OPTIONAL, Policy, policy_of
from opendimo.pipelines.quality.verdicts import kept_clips
from opendimo.pipelines.quality.verdicts import verdicts as judge
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.takedown import take_down
from tests.pipelines.clip_sources import source_row, verdict

GOOD = {
    "frames": 100,
    "video_sha256": "x",
    "people": 1.0,
    "second_share": 0.0,
    "person_share": 1.0,
    "person_height": 0.6,
    "exposure": 0.5,
    "sharpness": 300.0,
}


def clip(clip_id: str, source_id: str = "s", work_key: str = "w", **columns: object) -> dict:
    texts = {name: "x" for name in ("capture_id", "view", "kind", "name")}
    counts = ("start_frame", "end_frame", "fps_num", "fps_den", "source_width", "source_height", "width", "height")
    return {
        **texts,
        **dict.fromkeys(counts, 1),
        **GOOD,
        "track": np.zeros((3, 4), np.float32),
        "motion": 0.0,
        "subject_motion": 0.0,
        "frame_hashes": [],
        "clip_id": clip_id,
        "source_id": source_id,
        "work_key": work_key,
        **columns,
    }


def verdicts(lake: Lake, policy: Policy) -> dict[str, str | None]:
    found = judge(lake, policy)
    return dict(zip(found["clip_id"].to_pylist(), found["reason"].to_pylist(), strict=True))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"frames": 8}, "too_short"),
        ({"video_sha256": None, "people": 0.0}, "no_person"),
        ({"people": 2.0}, "several_people"),
        ({"second_share": 25 / 53}, "several_people"),
        ({"second_share": None}, None),  # cut by a version without this score
        ({"person_share": 0.3}, "person_leaves"),
        ({"person_height": 0.1}, "person_too_small"),
        ({"exposure": 0.01}, "too_dark"),
        ({"exposure": 0.99}, "too_bright"),
        ({"sharpness": 2.0}, "blurred"),
    ],
)
def test_each_reason(change: dict, reason: str | None) -> None:
    assert verdict({**GOOD, **change}, Policy()) == reason


@pytest.mark.parametrize(("limit", "reason"), OPTIONAL.items())
def test_each_optional_limit(limit: str, reason: str) -> None:
    below, above = {**GOOD, limit[4:]: 0.2}, {**GOOD, limit[4:]: 0.4}
    kept, dropped = (above, below) if limit.startswith("min_") else (below, above)
    policy = Policy(**{limit: 0.3})
    assert verdict(dropped, policy) == reason and verdict(dropped, Policy()) is None
    assert verdict(kept, policy) is None
    assert verdict({**GOOD, limit[4:]: None}, policy) is None  # cut by a version without this score


def test_a_policy_is_a_file_of_thresholds(tmp_path: Path) -> None:
    path = tmp_path / "quality.toml"
    path.write_text("min_frames = 33\nmax_people = 2\nmin_hands_visible = 0.5\nkeep_mirrored = false\n")
    wanted = Policy(min_frames=33, max_people=2.0, min_hands_visible=0.5, keep_mirrored=False)
    assert policy_of(path) == wanted and policy_of(None) == Policy()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("min_hands = 0.5", r"quality.toml: unknown key 'min_hands'; known keys: min_frames, .*min_hands_visible"),
        ("min_frames = 0.5", "min_frames must be an integer, got 0.5"),
        ("max_people = true", "max_people must be a number, got True"),
        ('min_hands_visible = "half"', "min_hands_visible must be a number, got 'half'"),
        ("min_frames = ", "quality.toml is not TOML"),
        ("[min_frames]\na = 1", "min_frames must be an integer"),
    ],
)
def test_what_is_no_policy_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "quality.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        policy_of(path)


def test_another_threshold_is_another_answer_of_the_same_rows(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.append("run", {"clips": [clip("a"), clip("b", people=2.0, second_share=1.0)]})
    assert verdicts(lake, Policy()) == {"a": None, "b": "several_people"}
    assert verdicts(lake, Policy(max_people=2.0)) == {"a": None, "b": None}
    assert kept_clips(lake, Policy(), columns=["people"]).to_pylist() == [{"clip_id": "a", "people": 1.0}]


def test_clips_of_an_older_cut_are_superseded(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.append("first", {"clips": [clip("a", work_key="z"), clip("other", "t", work_key="z2")]})
    lake.append("second", {"clips": [clip("b", work_key="a")]})
    assert verdicts(lake, Policy()) == {"a": "superseded", "b": None, "other": None}


def test_clips_of_a_source_that_was_taken_down_are_filtered(tmp_path: Path, data: Path) -> None:
    lake = Lake(tmp_path)
    source = source_row(data / "internet/virtual_camera/static.mp4")
    lake.append("run", {"sources": [source], "clips": [clip("a", source["source_id"]), clip("b")]})
    take_down(lake, "source_id", source["source_id"], "asked for", "a test")
    assert verdicts(lake, Policy()) == {"a": "taken_down", "b": None}
