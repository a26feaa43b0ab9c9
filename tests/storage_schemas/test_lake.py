"""Rows are read back as written, and committed exactly once."""

import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from opendimo.storage_schemas.lake import commit, runs
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.store import ObjectStore, write_json
from opendimo.storage_schemas.rows import arrow_to_rows, rows_to_arrow
from opendimo.storage_schemas.tables import TABLES, Table
from tests.rows import capture, clip_video


@pytest.fixture
def lake(home: str) -> Lake:
    return Lake(home)


def test_rows_come_back_as_written(lake: Lake) -> None:
    down = np.array([0, 0, -1], np.float32)
    lake.append("r1", {"captures": [capture("b"), capture("a", gravity_down=down, take="jump")]})
    first, second = lake.read("captures")
    assert (first["capture_id"], first["take"], first["views"], first["run_id"]) == ("a", "jump", ["main"], "r1")
    np.testing.assert_array_equal(first["gravity_down"], down)
    assert second["gravity_down"] is None


def test_blobs_come_in_the_order_asked(lake: Lake) -> None:
    lake.append("r1", {"clip_videos": [clip_video(k, k.encode() * 100_000) for k in "abc"]})
    assert [b[:1] for b in lake.blobs("clip_videos", "video", ["c", "a", "c"])] == [b"c", b"a", b"c"]


def test_a_lake_that_was_deleted_is_not_created_again_by_another_process(tmp_path: Path) -> None:
    sent = pickle.dumps(Lake(tmp_path / "lake"))
    assert pickle.loads(sent).read("captures") == []
    shutil.rmtree(tmp_path / "lake")
    with pytest.raises(FileNotFoundError, match="lake is not a lake, or was deleted or moved"):
        pickle.loads(sent)
    assert not (tmp_path / "lake").exists()


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
        lake.append("r1", {"captures": [capture("a", **change)]})


def test_arrays_of_one_row_agree_on_the_number_of_frames() -> None:
    rows = [{"K": np.zeros((5, 3, 3)), "world_to_camera": np.zeros((4, 3, 4))}]
    with pytest.raises(ValueError, match="does not fit"):
        rows_to_arrow(TABLES["sources"], [{name: "" for name in TABLES["sources"].schema.names} | rows[0]])


@settings(max_examples=30, deadline=None)
@given(array=hnp.arrays(np.float32, (3,), elements=st.floats(-1e6, 1e6, width=32)))
def test_arrays_survive_arrow(array: np.ndarray) -> None:
    table = rows_to_arrow(TABLES["captures"], [capture("a", gravity_down=array, run_id="r")])
    np.testing.assert_array_equal(arrow_to_rows(table)[0]["gravity_down"], array)


def test_the_same_run_twice_stores_once(lake: Lake) -> None:
    for _ in range(2):
        lake.append("r1", {"clip_videos": [clip_video("a")], "captures": [capture("a")]})
    assert [r["clip_id"] for r in lake.read("clip_videos")] == ["a"]
    assert sorted(r["table_name"] for r in lake.read("ledger")) == ["captures", "clip_videos"]


def test_a_row_staged_by_two_shards_is_stored_once(lake: Lake) -> None:
    runs.begin(lake, "r1", {"shards": 2})
    for shard, other in enumerate("bc"):
        runs.stage_shard(lake, "r1", shard, {"captures": [capture("a"), capture(other)]}, {})
    assert commit.commit(lake, "r1") == {"captures": 3}
    assert [r["capture_id"] for r in lake.read("captures")] == ["a", "b", "c"]


def test_of_a_clip_stored_by_two_runs_the_first_stays(lake: Lake) -> None:
    lake.append("r1", {"clip_videos": [clip_video("a", b"first"), clip_video("b", b"first")]})
    lake.append("r2", {"clip_videos": [clip_video("b", b"other"), clip_video("c", b"new"), clip_video("a", b"other")]})
    assert [(r["clip_id"], r["run_id"]) for r in lake.read("clip_videos")] == [("a", "r1"), ("b", "r1"), ("c", "r2")]
    assert lake.blobs("clip_videos", "video", ["a", "b", "c"]) == [b"first", b"first", b"new"]


def test_a_clip_staged_by_two_shards_is_stored_once(lake: Lake) -> None:
    runs.begin(lake, "r1", {"shards": 2})
    for shard, other in enumerate("bc"):
        runs.stage_shard(lake, "r1", shard, {"clip_videos": [clip_video("a"), clip_video(other)]}, {})
    assert commit.commit(lake, "r1") == {"clip_videos": 3}
    assert [r["clip_id"] for r in lake.read("clip_videos")] == ["a", "b", "c"]


def test_a_fragment_appended_twice_is_dropped(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    original = commit._transaction

    def twice(lake: Lake, table: Table, version: int, operation: Any) -> lance.LanceDataset:
        if isinstance(operation, lance.LanceOperation.Append):  # a suspended process whose lock was taken over
            original(lake, table, version, operation)
        return original(lake, table, version, operation)

    with monkeypatch.context() as patched:
        patched.setattr(commit, "_transaction", twice)
        lake.append("r1", {"clip_videos": [clip_video("a"), clip_video("b")]})
    lake.append("r2", {"clip_videos": [clip_video("c")]})
    assert [r["clip_id"] for r in lake.read("clip_videos")] == ["a", "b", "c"]
    assert lake.blobs("clip_videos", "video", ["b"]) == [b"bytes"]


def test_of_rows_that_another_writer_doubled_the_first_stays(lake: Lake) -> None:
    lake.append("r1", {"clip_videos": [clip_video("a")]})
    doubled = rows_to_arrow(TABLES["clip_videos"], [{**clip_video("a", b"other"), "run_id": "?"}])
    lance.write_dataset(doubled, lake.table_uri("clip_videos"), mode="append")
    lake.append("r2", {"clip_videos": [clip_video("a"), clip_video("b")]})
    assert [(row["clip_id"], row["run_id"]) for row in lake.read("clip_videos")] == [("a", "r1"), ("b", "r2")]
    assert lake.blobs("clip_videos", "video", ["a"]) == [b"bytes"]


def test_a_shard_with_one_clip_twice_is_refused(lake: Lake) -> None:
    runs.begin(lake, "r1", {"shards": 1})
    with pytest.raises(ValueError, match="two rows of clip_videos have the same clip_id"):
        runs.stage_shard(lake, "r1", 0, {"clip_videos": [clip_video("a"), clip_video("a")]}, {})


def test_of_two_workers_of_one_shard_the_first_counts(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    runs.begin(lake, "r1", {"shards": 1})
    runs.stage_shard(lake, "r1", 0, {"captures": [capture("a")]}, {"worker": 1})
    with monkeypatch.context() as patched:  # the second worker checked for a manifest before the first wrote it
        patched.setattr(runs, "read_json", lambda store, name: None)
        runs.stage_shard(lake, "r1", 0, {"captures": [capture("b")]}, {"worker": 2})
    assert commit.commit(lake, "r1") == {"captures": 1}
    assert [row["capture_id"] for row in lake.read("captures")] == ["a"]


def test_what_is_staged_of_a_run_can_be_kept_without_the_rest(lake: Lake) -> None:
    runs.begin(lake, "r1", {"shards": 3})
    runs.stage_shard(lake, "r1", 1, {"captures": [capture("a")], "clip_videos": [clip_video("a")]}, {"done": 1})
    notes = []
    rows = commit.commit(lake, "r1", lambda found: {"counts": {"notes": notes.extend(found)}}, partial=True)
    assert rows == {"captures": 1, "clip_videos": 1}
    assert notes == [{"done": 1}]
    assert runs.unfinished(lake) == []


def test_runs_that_did_not_end_are_listed_oldest_first(lake: Lake) -> None:
    for run_id in ("z", "a"):
        runs.begin(lake, run_id, {"shards": 1})
    lake.append("done", {"captures": [capture("a")]})
    assert [plan["run_id"] for plan in runs.unfinished(lake)] == ["z", "a"]


def test_a_run_that_never_began_says_so(lake: Lake) -> None:
    with pytest.raises(ValueError, match="has no run r9"):
        commit.commit(lake, "r9")


def test_part_of_a_blob_is_read_without_the_rest(lake: Lake) -> None:
    big = np.random.default_rng(0).bytes(8 << 20)
    lake.append("r1", {"clip_videos": [clip_video("a", big)]})
    with lake.open_blob("clip_videos", "video", "a") as blob:
        blob.seek(5 << 20)
        assert blob.read(1000) == big[5 << 20 : (5 << 20) + 1000]
        assert blob.seek(0, os.SEEK_END) == len(big)


def test_labels_come_and_go_without_touching_video_bytes(lake: Lake) -> None:
    lake.append("r1", {"clip_videos": [clip_video("a")], "captures": [capture("a")]})
    before = lake.store.sizes("tables/clip_videos.lance")
    lake.append("r2", {"captures": [capture("a", take="two", work_key="newer"), capture("b")]})
    assert lake.store.sizes("tables/clip_videos.lance") == before


def test_a_newer_fact_takes_the_place_of_the_older(lake: Lake) -> None:
    lake.append("r1", {"captures": [capture("a", take="one"), capture("b")]})
    lake.append("r2", {"captures": [capture("a", take="two")]})
    assert [(r["capture_id"], r["take"], r["run_id"]) for r in lake.read("captures")] == [
        ("a", "two", "r2"),
        ("b", "one", "r1"),
    ]


def test_the_ledger_counts_what_was_replaced(lake: Lake) -> None:
    lake.append("r1", {"captures": [capture("a"), capture("b")]})
    lake.append("r2", {"captures": [capture("a", work_key="newer"), capture("b"), capture("c")]})
    assert {r["run_id"]: (r["rows"], r["replaced"]) for r in lake.read("ledger")} == {"r1": (2, 0), "r2": (3, 1)}


def test_an_unstaged_shard_stops_the_commit(lake: Lake) -> None:
    runs.begin(lake, "r1", {"shards": 2})
    runs.stage_shard(lake, "r1", 0, {"captures": [capture("a")]}, {})
    with pytest.raises(ValueError, match="shard 1 is not staged"):
        commit.commit(lake, "r1")
    assert lake.read("captures") == []


@pytest.mark.parametrize(("version", "message"), [(999, "upgrade opendimo"), (1, "run `dimo migrate --lake")])
def test_a_lake_of_another_version_is_refused(lake: Lake, version: int, message: str) -> None:
    write_json(lake.store, "lake.json", {"schema_version": version})
    with pytest.raises(ValueError, match=message):
        Lake(lake.uri)


@pytest.mark.parametrize(("method", "answer"), [("create_tagged", "tag"), ("swap", "tag")])
def test_a_store_that_ignores_conditions_is_refused(
    s3: str, monkeypatch: pytest.MonkeyPatch, method: str, answer: str
) -> None:
    monkeypatch.setattr(ObjectStore, method, lambda *_: answer)
    with pytest.raises(ValueError, match="ignores conditional writes"):
        Lake(s3)


def test_a_url_of_nothing_known_is_refused() -> None:
    with pytest.raises(ValueError, match="a lake cannot be stored at ftp://, use a folder or s3, gs, az"):
        Lake("ftp://somewhere/lake")


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.sets(st.sampled_from("abcdef")), min_size=1, max_size=5), data=st.data())
def test_commits_are_idempotent_and_free_of_order(
    tmp_path_factory: pytest.TempPathFactory, batches: list[set[str]], data: st.DataObject
) -> None:
    def fill(order: list[int]) -> tuple[list[str], list[str]]:
        lake = Lake(tmp_path_factory.mktemp("lake"))
        for k in order:
            keys = sorted(batches[k])
            rows = {"clip_videos": [clip_video(key, key.encode()) for key in keys]}
            lake.append(f"r{k}", rows | {"captures": [capture(key) for key in keys]})
        videos = lake.read("clip_videos", ["clip_id"])
        stored = [row["clip_id"] for row in videos]
        assert lake.blobs("clip_videos", "video", stored) == [key.encode() for key in stored]
        return stored, [row["capture_id"] for row in lake.read("captures", ["capture_id"])]

    once = list(range(len(batches)))
    shuffled = data.draw(st.permutations(once * 2))
    assert fill(once) == fill(shuffled) == (sorted(set().union(*batches)),) * 2


def test_the_key_of_every_table_is_declared() -> None:
    for table in TABLES.values():
        field = table.schema.field(table.key)
        assert field.metadata[b"lance-schema:unenforced-primary-key"] == b"true"
        assert not field.nullable


def test_every_field_says_what_it_means() -> None:
    missing = [f"{t.name}.{f.name}" for t in TABLES.values() for f in t.schema if not (f.metadata or {}).get(b"about")]
    assert not missing


def test_lance_keeps_the_field_metadata(lake: Lake) -> None:
    schema = lake.dataset("poses").schema
    assert schema.field("body_pose").metadata[b"unit"] == b"radians"
