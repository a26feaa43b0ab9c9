"""The diff of two releases on a handmade example."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opendimo.storage_schemas.lake import commit, runs
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.takedown import take_down
from opendimo.storage_schemas.releases.diff import diff
from opendimo.storage_schemas.releases.diff_sides import match
from opendimo.storage_schemas.releases.policy import ReleasePolicy
from opendimo.storage_schemas.releases.release import create_release
from tests.rows import clip, latent, pair, pose, source
from tests.storage_schemas.release_rows import add, small_lake


def run(lake: Lake, run_id: str, config: dict[str, Any], rows: dict[str, list[dict[str, Any]]]) -> None:
    """Commit rows like a stage, with its config in the ledger."""
    runs.begin(lake, run_id, {"shards": 1})
    runs.stage_shard(lake, run_id, 0, rows, {})
    commit.commit(lake, run_id, lambda notes: {"stage": "poses", "config": config, "counts": {}})


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """demo@1 and demo@2: a is relabelled, b taken down, c moved, d new, e newly kept, f filtered, g no longer kept; one
    window of h is removed and one has new latents."""
    lake = small_lake(tmp_path_factory.mktemp("releases") / "lake")
    for name in "efgh":
        add(lake, f"more {name}", name)
    run(lake, "labels 1", {"version": "1", "config": {"fit": {"smooth": 0.5}}}, {"poses": [pose("a", "old pose")]})
    lake.append("set 1", {"pairs": [
        pair("a", pair_id="1a", pose_id="old pose"), pair("b", pair_id="1b"), pair("c", "test", pair_id="1c"),
        pair("f", pair_id="1f"), pair("g", pair_id="1g"), pair("h", pair_id="1h"),
        pair("h", pair_id="1h late", driving_start=3, target_start=3),
    ]})  # fmt: skip
    create_release(lake, "demo")
    lake.append("other licence", {"sources": [source("f", licence="unclear")]})
    lake.append("new", {"sources": [source("d")], "clips": [clip("d")], "poses": [pose("d")]})
    lake.append("texts", {"latents": [latent("d"), latent("h", "new latents", text="The camera pans left.")]})
    run(lake, "labels 2", {"version": "1", "config": {"fit": {"smooth": 0.7}}},
        {"poses": [pose("a", "new pose", weight=0.9)]})  # fmt: skip
    lake.append("set 2", {"pairs": [
        pair("a", pair_id="2a", pose_id="new pose", weight=0.9), pair("b", pair_id="2b"), pair("c", pair_id="2c"),
        pair("d", pair_id="2d"), pair("e", pair_id="2e"), pair("f", pair_id="2f"),
        pair("h", pair_id="2h", latent_id="new latents"),
    ]})  # fmt: skip
    take_down(lake, "source_id", "s-b", "asked for", "ann")
    create_release(lake, "demo", ReleasePolicy(licences=("CC-BY-4.0",)))
    return lake


def test_a_diff_counts_every_change_with_its_reason(lake: Lake) -> None:
    found = diff(lake, "demo@1", "demo@2")
    assert (found.before, found.after, found.common, found.removed, found.added) == (7, 5, 3, 4, 2)
    assert found.removed_why == {
        "clip no longer kept": 1, "filtered: licence": 1, "taken down": 1, "window no longer made": 1,
    }  # fmt: skip
    assert found.added_why == {"clip newly kept": 1, "new source": 1}
    assert (found.relabelled, found.by_field) == (2, {"pose": 1, "latents": 1, "weight": 1, "text": 1})
    assert found.relabelled_why == {
        "pose: config.fit.smooth 0.5 -> 0.7": 1, "latents: made again with the same settings": 1,
    }  # fmt: skip
    assert (found.moved, found.splits) == (1, {"test to train": 1})


def test_a_diff_lists_examples(lake: Lake) -> None:
    listed = diff(lake, "demo@1", "demo@2", examples=9).examples
    assert {row["pair_id"]: row["why"] for row in listed["removed"]} == {
        "1b": "taken down", "1f": "filtered: licence", "1g": "clip no longer kept", "1h late": "window no longer made",
    }  # fmt: skip
    assert [row["pair_id"] for row in listed["relabelled"]] == ["2a", "2h"]
    assert [row["why"] for row in listed["moved"]] == ["test to train"]
    assert [len(rows) for rows in diff(lake, "demo@1", "demo@2", examples=1).examples.values()] == [1, 1, 1, 1]


def test_the_other_way_round_what_was_added_was_removed(lake: Lake) -> None:
    there, back = diff(lake, "demo@1", "demo@2"), diff(lake, "demo@2", "demo@1")
    assert (back.added, back.removed, back.relabelled, back.moved) == (there.removed, there.added, 2, 1)
    assert back.removed_why == {"source no longer there": 1, "clip no longer kept": 1}


def test_a_release_is_equal_to_itself(lake: Lake) -> None:
    found = asdict(diff(lake, "demo@2", "demo@2", examples=3))
    assert (found.pop("before"), found.pop("after"), found.pop("common")) == (5, 5, 5)
    assert not any(value for name, value in found.items() if name not in ("older", "newer", "examples"))


def test_an_unknown_release_is_named(lake: Lake) -> None:
    with pytest.raises(ValueError, match="no release demo@9"):
        diff(lake, "demo@1", "demo@9")


KEYS = st.sets(st.tuples(st.integers(0, 3), st.integers(0, 5)))


@given(KEYS, KEYS)
def test_matching_is_exact(left: set[tuple[int, int]], right: set[tuple[int, int]]) -> None:
    tables = [
        pa.table({"x": np.array([k[0] for k in keys], np.int32), "y": np.array([k[1] for k in keys], np.int32)})
        for keys in (sorted(left), sorted(right, reverse=True))
    ]
    only_left, only_right, both_left, both_right = match(*tables)
    rows = [list(zip(*t.to_pydict().values(), strict=True)) for t in tables]
    assert [rows[0][k] for k in only_left] == [key for key in rows[0] if key not in right]
    assert [rows[1][k] for k in only_right] == [key for key in rows[1] if key not in left]
    assert [rows[0][k] for k in both_left] == [rows[1][k] for k in both_right] == [k for k in rows[0] if k in right]
