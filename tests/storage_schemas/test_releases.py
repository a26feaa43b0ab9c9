"""Releases: pinned, immutable, checked when opened."""

from pathlib import Path

import pytest

from storage_schemas.lake import Lake
from storage_schemas.releases import create_release, list_releases, open_release


def source(name: str) -> dict:
    texts = ("kind", "uri", "local_path", "name", "content_sha256", "annotation_sha256", "container", "codec", "view")
    numbers = ("size", "width", "height", "rotation", "fps_num", "fps_den", "fetched_at")
    row = {"source_id": f"s-{name}", "capture_id": name, "licence": "CC-BY-4.0", "tombstone": False, "work_key": name}
    return dict.fromkeys(texts, "") | dict.fromkeys(numbers, 1) | row


def clip(name: str, capture: str) -> dict:
    texts = {"source_id": f"s-{name}", "capture_id": capture, "view": "main", "kind": "internet", "name": name}
    numbers = dict.fromkeys(("start_frame", "end_frame", "frames", "fps_num", "fps_den"), 1)
    sizes = dict.fromkeys(("source_width", "source_height", "width", "height"), 64)
    scores = ("people", "person_share", "person_height", "sharpness", "motion", "subject_motion", "exposure")
    rest = {"licence": "CC-BY-4.0", "frame_hashes": [], "work_key": f"w-{name}"}
    return {"clip_id": name} | texts | numbers | sizes | dict.fromkeys(scores, 1.0) | rest


def pair(clip_id: str, capture: str, split: str = "train", subject: str | None = None) -> dict:
    window = {"driving_start": 0, "target_start": 0, "num_frames": 9, "frame_step": 1, "latent_id": f"l-{clip_id}"}
    clips = {"driving_clip_id": clip_id, "target_clip_id": clip_id, "capture_id": capture, "subject": subject}
    rest = {"kind": "same_view", "source_kind": "internet", "split": split, "weight": 1.0, "work_key": "w"}
    return {"pair_id": f"p-{clip_id}"} | window | clips | rest


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(tmp_path / "lake")
    lake.append("r0", {"sources": [source("a"), source("b")]})
    lake.append("r1", {"clips": [clip("a", "x"), clip("b", "y")], "pairs": [pair("a", "x"), pair("b", "y", "test")]})
    return lake


def test_a_release_counts_what_it_holds(lake: Lake) -> None:
    create_release(lake, "demo")
    manifest = open_release(lake.uri, "demo@1").manifest
    assert manifest["pairs"] == 2
    assert manifest["by_split"] == {"train": 1, "test": 1}
    assert manifest["by_licence"] == {"CC-BY-4.0": 2}


def test_the_same_content_is_the_same_release(lake: Lake) -> None:
    assert create_release(lake, "demo")["release_id"] == create_release(lake, "demo")["release_id"] == "demo@1"


def test_a_release_does_not_see_later_rows(lake: Lake) -> None:
    create_release(lake, "demo")
    before = open_release(lake.uri, "demo@1")
    lake.append("r2", {"clips": [clip("c", "z")], "pairs": [pair("c", "z")]})
    after = open_release(lake.uri, "demo@1")
    assert after.sha256 == before.sha256
    assert [p["pair_id"] for p in after.read("pairs")] == ["p-a", "p-b"]
    assert after.read("pairs", ["pair_id"]) == [{"pair_id": "p-a"}, {"pair_id": "p-b"}]
    assert [c["clip_id"] for c in after.read("clips", ["clip_id"])] == ["a", "b"]
    newer = create_release(lake, "demo")
    assert (newer["release_id"], newer["parent"], newer["pair_ids"]) == ("demo@2", "demo@1", ["p-c"])


def test_a_moved_tag_is_caught(lake: Lake) -> None:
    create_release(lake, "demo")
    lake.append("r2", {"clips": [clip("c", "z")]})
    dataset = lake.dataset("clips")
    dataset.tags.update("release.demo.1", dataset.version)
    with pytest.raises(ValueError, match="clips is not what was pinned"):
        open_release(lake.uri, "demo@1")


def test_a_lost_version_is_caught(lake: Lake) -> None:
    create_release(lake, "demo")
    lake.dataset("pairs").tags.delete("release.demo.1")
    with pytest.raises(ValueError, match="pinned version of pairs is gone"):
        open_release(lake.uri, "demo@1")


def test_an_unknown_release_lists_the_known(lake: Lake) -> None:
    create_release(lake, "demo")
    with pytest.raises(ValueError, match=r"no release other@1 .* demo@1"):
        open_release(lake.uri, "other@1")


@pytest.mark.parametrize("name", ["", "../x", "Demo", "a b", "a" * 64])
def test_unusable_names_are_refused(lake: Lake, name: str) -> None:
    with pytest.raises(ValueError, match="use lower-case"):
        create_release(lake, name)


def test_nothing_to_release_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no pairs to release"):
        create_release(Lake(tmp_path / "empty"), "demo")


def test_a_subject_in_both_splits_is_refused(lake: Lake) -> None:
    lake.append("r2", {"clips": [clip("c", "z"), clip("d", "q")]})
    lake.append("r3", {"pairs": [pair("c", "z", "train", "ann"), pair("d", "q", "test", "ann")]})
    with pytest.raises(ValueError, match="subject ann is in both splits"):
        create_release(lake, "demo")
    assert list_releases(lake) == []
