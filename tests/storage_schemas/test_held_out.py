"""The manifest states for every kind of pair how many are held out, or why none is."""

from pathlib import Path
from typing import Any

import pytest

from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.releases.policy import ReleasePolicy
from opendimo.storage_schemas.releases.release import create_release, open_release
from tests.rows import pair, source
from tests.storage_schemas.release_rows import small_lake


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return small_lake(tmp_path / "lake")


def held_out(lake: Lake, pairs: list[tuple[str, str, str]], policy: ReleasePolicy | None = None) -> dict[str, Any]:
    """Create a release of pairs (clip, kind, split), each clip a group; return `held_out` of its manifest."""
    rows = [
        pair(name, split, f"{k}", kind=kind, split_group=f"group {name}") for k, (name, kind, split) in enumerate(pairs)
    ]
    lake.append("set", {"pairs": rows})
    create_release(lake, "demo", policy)
    found: dict[str, Any] = open_release(lake.uri, "demo@1").manifest["held_out"]
    return found


def test_what_is_held_out_is_counted_and_what_cannot_be_made_is_named(lake: Lake) -> None:
    train = [("a", "same_view", "train"), ("b", "cross_view", "train"), ("b", "same_view", "train")]
    test = [("c", "same_view", "test"), ("c", "same_view", "test"), ("c", "cross_view", "test")]
    found = held_out(lake, train + test)
    assert found == {
        "pairs": 3,
        "by_kind": {"same_view": 2, "cross_view": 1},
        "why_not": {"moving_camera": "no pair of this kind can be made of the clips"},
    }


def test_the_only_group_with_a_kind_trains_it(lake: Lake) -> None:
    found = held_out(lake, [("a", "same_view", "train"), ("b", "cross_view", "train"), ("c", "same_view", "test")])
    assert found["why_not"]["cross_view"] == "only one group has any (group b), and it is needed for training"


def test_groups_that_are_each_the_last_to_train_a_kind(lake: Lake) -> None:
    rig = [(name, kind, "train") for name, other in (("a", "cross_view"), ("b", "moving_camera"))
           for kind in ("same_view", other)]  # fmt: skip
    why = held_out(lake, rig)["why_not"]
    assert why["same_view"] == "each of the 2 groups that have any is the last one that can train some kind"
    assert why["cross_view"].startswith("only one group has any (group a)")


def test_a_share_of_0_holds_nothing_out(lake: Lake) -> None:
    found = held_out(lake, [(name, "same_view", "train") for name in "abc"])
    assert found["why_not"]["same_view"] == ("of 3 groups that have any none was held out: the share for testing was 0")
    assert found["pairs"] == 0


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_policy_may_leave_a_kind_out(lake: Lake, split: str) -> None:
    lake.append("other licence", {"sources": [source("c", licence="unclear")]})
    pairs = [("a", "same_view", "train"), ("b", "same_view", "test"), ("c", "cross_view", split)]
    found = held_out(lake, pairs, ReleasePolicy(licences=("CC-BY-4.0",)))
    assert found["by_kind"] == {"same_view": 1}
    assert found["why_not"]["cross_view"] == "the policy left them out: licence 1"


def test_pairs_of_before_groups_were_stored(lake: Lake) -> None:
    create_release(lake, "demo")
    found = open_release(lake.uri, "demo@1").manifest["held_out"]
    assert found["by_kind"] == {"same_view": 1}
    lake.append("again", {"pairs": [pair("a", pair_id="2a"), pair("b", pair_id="2b")]})
    create_release(lake, "demo")
    why = open_release(lake.uri, "demo@2").manifest["held_out"]["why_not"]["same_view"]
    assert why == "the pairs were made before groups were stored: make them again with `dimo encode`"


def test_a_group_on_both_sides_is_refused(lake: Lake) -> None:
    rows = [pair("a", "train", "1", split_group="film"), pair("b", "test", "2", split_group="film")]
    lake.append("set", {"pairs": rows})
    with pytest.raises(ValueError, match="split_group film is in both splits"):
        create_release(lake, "demo")
