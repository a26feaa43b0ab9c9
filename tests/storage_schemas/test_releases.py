"""Releases are pinned, immutable, and checked when opened."""

from pathlib import Path

import pytest

from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.takedown import lift, take_down
from opendimo.storage_schemas.releases.pins import PINNED
from opendimo.storage_schemas.releases.policy import ReleasePolicy
from opendimo.storage_schemas.releases.release import create_release, list_releases, open_release
from tests.rows import clip, pair, source
from tests.storage_schemas.release_rows import add, small_lake


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return small_lake(tmp_path)


def test_a_release_counts_what_it_holds(lake: Lake) -> None:
    create_release(lake, "demo")
    manifest = open_release(lake.uri, "demo@1").manifest
    assert (manifest["pairs"], manifest["candidates"], manifest["dropped"]) == (3, 3, {})
    assert manifest["by_split"] == {"train": 2, "test": 1}
    assert manifest["by_licence"] == {"CC-BY-4.0": 3}
    assert manifest["by_camera_term"] == {"static": 3}
    assert (manifest["captures"], manifest["subjects"], manifest["clips"]) == (3, 0, 3)
    assert manifest["hours"] == pytest.approx(3 * 12 / 30 / 3600, abs=1e-6)


def test_the_same_content_is_the_same_release(lake: Lake) -> None:
    first = create_release(lake, "demo")
    lake.dataset("clips").optimize.compact_files()
    assert create_release(lake, "demo") == first
    assert [r["release_id"] for r in list_releases(lake)] == ["demo@1"]
    assert all(list(lake.dataset(table).tags.list()) == ["release.demo.1"] for table in PINNED)


def test_another_policy_is_another_release(lake: Lake) -> None:
    create_release(lake, "demo")
    assert create_release(lake, "demo", ReleasePolicy(approval=True))["release_id"] == "demo@2"


def test_a_release_does_not_see_later_rows(lake: Lake) -> None:
    create_release(lake, "demo")
    before = open_release(lake.uri, "demo@1")
    add(lake, "more", "z")
    lake.append("again", {"pairs": [pair("z")]})
    after = open_release(lake.uri, "demo@1")
    assert after.sha256 == before.sha256
    assert [p["pair_id"] for p in after.read("pairs")] == ["pair-a", "pair-b", "pair-c"]
    assert after.read("pairs", ["pair_id"], "split = 'test'") == [{"pair_id": "pair-c"}]
    assert [c["clip_id"] for c in after.read("clips", ["clip_id"])] == ["a", "b", "c"]
    newer = create_release(lake, "demo")
    assert (newer["release_id"], newer["parent"], newer["pairs"]) == ("demo@2", "demo@1", 1)


def test_what_was_taken_down_is_left_out_and_comes_back_when_it_is_lifted(lake: Lake) -> None:
    lake.append("cross", {"pairs": [pair("a"), pair("x", target_clip_id="b", driving_clip_id="a", pair_id="a to b"),
                                    pair("y", driving_clip_id="b", target_clip_id="b", pair_id="b to b")]})  # fmt: skip
    take_down(lake, "source_id", "s-a", "asked for", "ann")
    create_release(lake, "demo")
    release = open_release(lake.uri, "demo@1")
    assert release.scan("pairs", ["pair_id"])["pair_id"].to_pylist() == ["b to b"]
    assert release.manifest["dropped"] == {"taken_down": 1}
    lift(lake, "source_id", "s-a", "a mistake", "ann")
    assert create_release(lake, "demo")["pairs"] == 2


def test_an_unknown_release_lists_the_known(lake: Lake) -> None:
    create_release(lake, "demo")
    with pytest.raises(ValueError, match=r"no release other@1 .* demo@1"):
        open_release(lake.uri, "other@1")


def test_a_release_without_a_version_names_the_newest_usable_one(lake: Lake) -> None:
    create_release(lake, "demo")
    create_release(lake, "demo", ReleasePolicy(approval=True))
    with pytest.raises(ValueError, match=r"'demo' has no version.* newest usable one is demo@1"):
        open_release(lake.uri, "demo")
    with pytest.raises(ValueError, match="there is no usable one of 'other'"):
        open_release(lake.uri, "other")


@pytest.mark.parametrize("name", ["", "../x", "Demo", "a b", "a" * 64])
def test_unusable_names_are_refused(lake: Lake, name: str) -> None:
    with pytest.raises(ValueError, match="use lower-case"):
        create_release(lake, name)


def test_nothing_to_release_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no pairs to release"):
        create_release(Lake(tmp_path), "demo")


@pytest.mark.parametrize(
    ("changes", "sources", "leak"),
    [
        ({"subject": "ann"}, {}, "subject ann"),
        ({"capture_id": "take"}, {}, "capture_id take"),
        ({}, {"content_sha256": "one file"}, "content_sha256 one file"),
    ],
)
def test_what_is_in_both_splits_is_refused(lake: Lake, changes: dict, sources: dict, leak: str) -> None:
    lake.append("more", {"sources": [source(n, **sources) for n in "de"], "clips": [clip(n) for n in "de"]})
    lake.append("leak", {"pairs": [pair("d", "train", **changes), pair("e", "test", **changes)]})
    with pytest.raises(ValueError, match=f"{leak} is in both splits"):
        create_release(lake, "demo")
    assert list_releases(lake) == []
    assert not any(lake.dataset(table).tags.list() for table in PINNED)


def test_many_releases_of_one_content_share_one_list_of_hashes(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    create_release(lake, "demo")
    hashed: list[str] = []
    original = type(lake.store).sha256
    monkeypatch.setattr(type(lake.store), "sha256", lambda self, name: hashed.append(name) or original(self, name))
    create_release(lake, "other")
    assert all(name.startswith("releases/other/1/") for name in hashed)
