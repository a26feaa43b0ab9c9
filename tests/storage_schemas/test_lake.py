"""The lake: rows in, the same rows out; exactly once."""

import json
import multiprocessing
import os
import signal
from pathlib import Path

import lance
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from storage_schemas import commit
from storage_schemas.lake import Lake
from storage_schemas.rows import arrow_to_rows, rows_to_arrow
from storage_schemas.tables import TABLES


def video_row(name: str, data: bytes = b"bytes") -> dict:
    return {"clip_id": name, "video": data, "sha256": "0" * 64, "work_key": f"w-{name}"}


def capture_row(name: str, **changes: object) -> dict:
    row = {"capture_id": name, "kind": "internet", "views": ["main"], "sync_method": "single", "take": "one"}
    return row | {"work_key": f"w-{name}"} | changes


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def test_rows_come_back_as_written(lake: Lake) -> None:
    down = np.array([0, 0, -1], np.float32)
    lake.append("r1", {"captures": [capture_row("b"), capture_row("a", gravity_down=down, take="jump")]})
    first, second = lake.read("captures")
    assert (first["capture_id"], first["take"], first["views"], first["run_id"]) == ("a", "jump", ["main"], "r1")
    np.testing.assert_array_equal(first["gravity_down"], down)
    assert second["gravity_down"] is None


def test_blobs_come_in_the_order_asked(lake: Lake) -> None:
    lake.append("r1", {"clip_videos": [video_row(k, k.encode() * 100_000) for k in "abc"]})
    assert [b[:1] for b in lake.blobs("clip_videos", "video", ["c", "a", "c"])] == [b"c", b"a", b"c"]


def test_a_missing_blob_is_named(lake: Lake) -> None:
    with pytest.raises(KeyError, match="no row nobody"):
        lake.blobs("clip_videos", "video", ["nobody"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": None}, r"captures.kind of a: missing"),
        ({"colour": "red"}, "no such column: colour"),
        ({"gravity_down": np.zeros(2)}, r"captures.gravity_down of a: shape \(2,\) does not fit \[3\]"),
    ],
)
def test_a_wrong_row_is_refused_by_name(lake: Lake, change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lake.append("r1", {"captures": [capture_row("a", **change)]})


def test_arrays_of_one_row_agree_on_the_number_of_frames() -> None:
    rows = [{"K": np.zeros((5, 3, 3)), "world_to_camera": np.zeros((4, 3, 4))}]
    with pytest.raises(ValueError, match="does not fit"):
        rows_to_arrow(TABLES["sources"], [{name: "" for name in TABLES["sources"].schema.names} | rows[0]])


@settings(max_examples=30, deadline=None)
@given(array=hnp.arrays(np.float32, (3,), elements=st.floats(-1e6, 1e6, width=32)))
def test_arrays_survive_arrow(array: np.ndarray) -> None:
    table = rows_to_arrow(TABLES["captures"], [capture_row("a", gravity_down=array, run_id="r")])
    np.testing.assert_array_equal(arrow_to_rows(table)[0]["gravity_down"], array)


def test_the_same_run_twice_stores_once(lake: Lake) -> None:
    for _ in range(2):
        lake.append("r1", {"clip_videos": [video_row("a")], "captures": [capture_row("a")]})
    assert [r["clip_id"] for r in lake.read("clip_videos")] == ["a"]
    assert sorted(r["table_name"] for r in lake.read("ledger")) == ["captures", "clip_videos"]


def test_a_row_staged_by_two_shards_is_stored_once(lake: Lake) -> None:
    commit.begin(lake, "r1", {"shards": 2})
    for shard, other in enumerate("bc"):
        commit.stage_shard(lake, "r1", shard, {"captures": [capture_row("a"), capture_row(other)]}, {})
    assert commit.commit(lake, "r1") == {"captures": 3}
    assert [r["capture_id"] for r in lake.read("captures")] == ["a", "b", "c"]


def test_a_clip_is_never_stored_twice(lake: Lake) -> None:
    lake.append("r1", {"clip_videos": [video_row("a")]})
    with pytest.raises(ValueError, match="twice"):
        lake.append("r2", {"clip_videos": [video_row("a")]})


def test_a_newer_fact_takes_the_place_of_the_older(lake: Lake) -> None:
    lake.append("r1", {"captures": [capture_row("a", take="one"), capture_row("b")]})
    lake.append("r2", {"captures": [capture_row("a", take="two")]})
    assert [(r["capture_id"], r["take"], r["run_id"]) for r in lake.read("captures")] == [
        ("a", "two", "r2"),
        ("b", "one", "r1"),
    ]


def test_the_ledger_counts_what_was_replaced(lake: Lake) -> None:
    lake.append("r1", {"captures": [capture_row("a"), capture_row("b")]})
    lake.append("r2", {"captures": [capture_row("a", work_key="newer"), capture_row("b"), capture_row("c")]})
    assert {r["run_id"]: (r["rows"], r["replaced"]) for r in lake.read("ledger")} == {"r1": (2, 0), "r2": (3, 1)}


def test_an_unstaged_shard_stops_the_commit(lake: Lake) -> None:
    commit.begin(lake, "r1", {"shards": 2})
    commit.stage_shard(lake, "r1", 0, {"captures": [capture_row("a")]}, {})
    with pytest.raises(ValueError, match="shard 1 is not staged"):
        commit.commit(lake, "r1")
    assert lake.read("captures") == []


def test_a_newer_lake_is_refused(lake: Lake) -> None:
    (lake.root / "lake.json").write_text(json.dumps({"schema_version": 999}))
    with pytest.raises(ValueError, match="upgrade opendimo"):
        Lake(lake.root)


def _commit_until_killed(root: Path, killer: str) -> None:
    """Run one request and die by SIGKILL just before the named function is called for the `ledger` or a table."""
    lake = Lake(root)
    name, count = killer.split(":")
    calls = 0
    original = getattr(commit, name)

    def dying(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        if calls > int(count):
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)

    setattr(commit, name, dying)
    lake.append("r1", {"clip_videos": [video_row("a"), video_row("b")], "captures": [capture_row("a")]})


@pytest.mark.parametrize(
    "killer",
    [
        "write_fragments:0",
        "stage_shard:0",
        "commit:0",
        "_commit_table:0",
        "_commit_table:1",
        "_append_ledger:0",
        "_append:0",
        "_append:1",
        "_replace:0",
        "write_json:1",
        "write_json:2",
    ],
)
def test_killed_anywhere_and_run_again_gives_the_same_tables(tmp_path: Path, killer: str) -> None:
    Lake(tmp_path)
    process = multiprocessing.get_context("spawn").Process(target=_commit_until_killed, args=(tmp_path, killer))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    lake = Lake(tmp_path)
    lake.append("r1", {"clip_videos": [video_row("a"), video_row("b")], "captures": [capture_row("a")]})
    assert [r["clip_id"] for r in lake.read("clip_videos")] == ["a", "b"]
    assert [r["capture_id"] for r in lake.read("captures")] == ["a"]
    assert {r["table_name"]: r["rows"] for r in lake.read("ledger")} == {"clip_videos": 2, "captures": 1}
    assert lake.blobs("clip_videos", "video", ["b"]) == [b"bytes"]


def test_the_key_of_every_table_is_declared() -> None:
    for table in TABLES.values():
        field = table.schema.field(table.key)
        assert field.metadata[b"lance-schema:unenforced-primary-key"] == b"true"
        assert not field.nullable


def test_every_field_says_what_it_means() -> None:
    missing = [f"{t.name}.{f.name}" for t in TABLES.values() for f in t.schema if not (f.metadata or {}).get(b"about")]
    assert not missing


def test_lance_keeps_the_field_metadata(lake: Lake) -> None:
    schema = lance.dataset(str(lake.path("poses"))).schema
    assert schema.field("body_pose").metadata[b"unit"] == b"radians"
