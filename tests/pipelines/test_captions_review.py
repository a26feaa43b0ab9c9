"""Tests of people's decisions about captions: out to a file, in again, and kept when clips are captioned anew."""

import csv
import json
from pathlib import Path

import pytest

from opendimo.pipelines.captions.review import decide, doubtful, write
from opendimo.pipelines.engine.revisions import current_captions, newest
from opendimo.storage_schemas.lake.lake import Lake
from tests.rows import row


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Three captioned clips, whose estimators disagree, disagree a little, and agree."""
    made = Lake(tmp_path / "lake")
    made.append("clips", {"clips": [row("clips", clip_id=c, name=f"clip {c}", frames=48) for c in "abc"]})
    made.append("first", {"captions": measured("first", "truck_right")})
    return made


def measured(name: str, term: str) -> list[dict]:
    evidence = json.dumps({"geometry": {"terms": [term]}, "image_motion": {"terms": ["pan_right"]}})
    terms = [{"term": term, "speed": "slow", "start_frame": 0, "end_frame": 48}]
    common = {
        "captioner": "geometry",
        "camera_terms": terms,
        "content_sentence": "A man, waving.",
        "evidence": evidence,
    }
    shares = {"a": 0.0, "b": 0.4, "c": 1.0}
    return [row("captions", caption_id=f"{name} {c}", clip_id=c, agreement=n, **common) for c, n in shares.items()]


def edited(lake: Lake, path: Path, **changes: str) -> Path:
    """Write the doubtful captions and edit clip b."""
    rows = doubtful(lake, 0.5)
    write(rows, path)
    text = path.read_text()
    read = (
        [json.loads(line) for line in text.splitlines()]
        if path.suffix == ".jsonl"
        else list(csv.DictReader(text.splitlines()))
    )
    write([{**r, **changes} if r["clip_id"] == "b" else r for r in read], path)
    return path


def terms_of(lake: Lake) -> dict[str, list[str]]:
    rows = current_captions(lake, ["camera_terms"]).to_pylist()
    return {r["clip_id"]: [t["term"] for t in r["camera_terms"]] for r in rows}


def test_doubtful_captions_are_listed_worst_first(lake: Lake) -> None:
    rows = doubtful(lake, 0.5)
    assert [r["name"] for r in rows] == ["clip a", "clip b"]
    assert rows[0]["estimates"] == "geometry: truck_right; image_motion: pan_right"
    assert rows[0]["camera_terms"] == "truck_right slow 0-48"


@pytest.mark.parametrize("name", ["doubts.csv", "doubts.jsonl"])
def test_a_decision_wins_and_outlives_new_measurements(lake: Lake, tmp_path: Path, name: str) -> None:
    path = edited(lake, tmp_path / name, camera_terms="static slow 0-20; pan_left fast 20-48", decided="yes")
    assert decide(lake, path, "ann") == ["b"]
    lake.append("again", {"captions": measured("again", "truck_left")})
    assert terms_of(lake)["b"] == ["static", "pan_left"]
    [kept] = [
        r for r in newest(lake, "captions", ["clip_id"], ["captioner", "text"]).to_pylist() if r["clip_id"] == "b"
    ]
    assert kept["captioner"] == "human: ann"
    assert kept["text"] == "The camera holds still, then pans to the left quickly. A man, waving."
    assert [r["clip_id"] for r in doubtful(lake, 0.5)] == ["a"]  # the decided one is not asked for again


def test_deciding_again_changes_nothing_and_a_new_decision_replaces_the_old(lake: Lake, tmp_path: Path) -> None:
    path = edited(lake, tmp_path / "doubts.csv", camera_terms="pan_left slow 0-48", decided="yes")
    other = edited(lake, tmp_path / "other.csv", camera_terms="zoom_in slow 0-48", decided="yes")
    assert decide(lake, path, "ann") == ["b"]
    version = lake.dataset("captions").version
    assert decide(lake, path, "ann") == [] and lake.dataset("captions").version == version
    assert decide(lake, other, "ann") == ["b"] and terms_of(lake)["b"] == ["zoom_in"]
    assert decide(lake, path, "ann") == ["b"] and terms_of(lake)["b"] == ["pan_left"]


def test_rows_that_nobody_decided_are_ignored(lake: Lake, tmp_path: Path) -> None:
    path = edited(lake, tmp_path / "doubts.csv", camera_terms="nonsense")
    assert decide(lake, path, "ann") == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"camera_terms": "pans left"}, r"line 3: 'pans left' is not a term"),
        ({"camera_terms": "pan_up slow 0-48"}, r"line 3: .*not a valid camera term"),
        ({"camera_terms": "pan_left slow 0-49"}, r"line 3: pan_left ends at 49, the clip has 48 frames"),
        ({"camera_terms": "pan_left slow 0-48; pan_right slow 10-20"}, "cannot both hold in frames 10 on"),
        ({"content_sentence": "The camera pans left."}, "must not describe the camera|must be in English"),
        ({"clip_id": "z"}, "the lake has no clip z"),
    ],
)
def test_a_wrong_row_is_named_and_nothing_is_stored(
    lake: Lake, tmp_path: Path, changes: dict[str, str], message: str
) -> None:
    path, before = edited(lake, tmp_path / "doubts.csv", **{"decided": "x", **changes}), terms_of(lake)
    with pytest.raises(ValueError, match=message):
        decide(lake, path, "ann")
    assert terms_of(lake) == before
