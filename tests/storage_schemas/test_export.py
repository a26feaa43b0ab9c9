"""Exported releases are read back with the libraries they are made for."""

import io
import json
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
import webdataset

from opendimo.storage_schemas.caption_hash import COMPOSED_OF, caption_hashes
from opendimo.storage_schemas.ids import sha256_file
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.takedown import take_down
from opendimo.storage_schemas.releases.export import export
from opendimo.storage_schemas.releases.release import Release, create_release, open_release
from tests.rows import caption, clip, clip_video, latent, pair, pose, source
from tests.storage_schemas.release_rows import NAMES, small_lake, video

HOSTILE = "../../etc/pass wd"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return small_lake(tmp_path / "lake")


@pytest.fixture
def release(lake: Lake) -> Release:
    return open_release(lake.uri, create_release(lake, "demo")["release_id"])


def files(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): sha256_file(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def read_shards(out: Path) -> dict[str, dict]:
    shards = sorted(str(path) for path in out.glob("*.tar"))
    return {sample["__key__"]: sample for sample in webdataset.WebDataset(shards, shardshuffle=False)}


def test_webdataset_reads_the_shards(release: Release, tmp_path: Path) -> None:
    assert export(release, tmp_path / "out", "webdataset") == 3
    samples = read_shards(tmp_path / "out")
    assert {key: sample["mp4"] for key, sample in samples.items()} == {name: video(name) for name in NAMES}
    facts = json.loads(samples["a"]["json"])
    assert (facts["text"], facts["licence"], facts["split"]) == ("The camera is static.", "CC-BY-4.0", "train")
    assert (facts["fps_num"], facts["frames"], facts["camera_terms"][0]["term"]) == (30, 12, "static")
    label = np.load(io.BytesIO(samples["a"]["pose.npz"]))
    assert label["body_pose"].shape == (12, 21, 3) and label["valid"].all()
    assert {p.name for p in (tmp_path / "out").glob("*.tar")} == {"train-000000.tar", "test-000000.tar"}
    assert pq.read_table(tmp_path / "out" / "pairs.parquet")["pair_id"].to_pylist() == ["pair-a", "pair-b", "pair-c"]


def test_shards_are_bounded_and_their_bytes_are_always_the_same(release: Release, tmp_path: Path) -> None:
    for out in ("one", "two"):
        export(release, tmp_path / out, "webdataset", shard_bytes=10_000)
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert {p.name for p in (tmp_path / "one").glob("train*.tar")} == {"train-000000.tar", "train-000001.tar"}
    assert len(read_shards(tmp_path / "one")) == 3


@pytest.mark.parametrize("layout", ["webdataset", "huggingface"])
def test_an_export_that_was_stopped_goes_on(
    release: Release, tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(release, tmp_path / "whole", layout, 10_000)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(release, tmp_path / "out", layout, 10_000, on_progress=stop)
    first = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.[tm][ap][r4]")}
    assert first
    export(release, tmp_path / "out", layout, 10_000)
    assert files(tmp_path / "out") == files(tmp_path / "whole")
    assert {path: path.stat().st_mtime_ns for path in first} == first


def test_datasets_reads_the_folder(release: Release, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(release, out, "huggingface")
    loaded = datasets.load_dataset(str(out), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 2, "test": 1}
    train = loaded["train"].cast_column("video", datasets.Video(decode=False))
    rows = {row["clip_id"]: row for row in train}
    assert {name: Path(row["video"]["path"]).read_bytes() for name, row in rows.items()} == {n: video(n) for n in "ab"}
    assert (rows["a"]["text"], rows["a"]["licence"]) == ("The camera is static.", "CC-BY-4.0")
    assert np.load(out / rows["a"]["pose_file"])["hand_pose"].shape == (12, 2, 15, 3)
    card = (out / "README.md").read_text()
    assert release.sha256 in card and "| licence | CC-BY-4.0 | 3 |" in card


@pytest.mark.parametrize("layout", ["webdataset", "huggingface"])
def test_no_name_leaves_the_folder(lake: Lake, tmp_path: Path, layout: str) -> None:
    h = HOSTILE
    lake.append("hostile", {"sources": [source(h)], "clips": [clip(h)], "clip_videos": [clip_video(h, video(h))],
                            "poses": [pose(h)], "captions": [caption(h)], "latents": [latent(h)]})  # fmt: skip
    lake.append("again", {"pairs": [pair(h)]})
    create_release(lake, "demo")
    before = files(lake.local)
    export(open_release(lake.uri, "demo@1"), tmp_path / "deep" / "out", layout)
    assert files(lake.local) == before
    assert {p.name for p in tmp_path.iterdir()} == {"lake", "deep"} and len(list((tmp_path / "deep").iterdir())) == 1
    assert not any(".." in name or " " in name for name in files(tmp_path / "deep" / "out"))
    if layout == "webdataset":
        [sample] = read_shards(tmp_path / "deep" / "out").values()
        assert json.loads(sample["json"])["clip_id"] == HOSTILE


def test_a_clip_that_only_drives_has_the_caption_committed_last(lake: Lake, tmp_path: Path) -> None:
    lake.append(
        "newer",
        {"captions": [caption("a", caption_id="newer", text="Newer."), caption("b", caption_id="nb", text="Newer.")]},
    )
    cross = pair("x", driving_clip_id="a", target_clip_id="b", capture_id="a", latent_id="latent-b", pose_id=None)
    lake.append("again", {"pairs": [cross]})
    create_release(lake, "demo")
    export(open_release(lake.uri, "demo@1"), tmp_path / "out", "webdataset")
    texts = {key: json.loads(sample["json"])["text"] for key, sample in read_shards(tmp_path / "out").items()}
    assert texts == {"a": "Newer.", "b": "The camera is static."}  # b: the text its latents were encoded with


def test_of_captions_with_one_text_that_one_is_exported_whose_terms_the_latents_embed(
    lake: Lake, tmp_path: Path
) -> None:
    term = {"term": "pan_left", "speed": "slow", "start_frame": 0, "end_frame": 6}
    captions = {name: caption("a", caption_id=name, camera_terms=[term | {"end_frame": end}], captioner=name)
                for name, end in (("six", 6), ("seven", 7), ("eight", 8))}  # fmt: skip
    for name, made in captions.items():
        lake.append(name, {"captions": [made]})
    [seven] = caption_hashes(lake.scan("captions", list(COMPOSED_OF), "caption_id = 'seven'")).to_pylist()
    lake.append("window", {"latents": [latent("a", "of seven", text="The camera pans left.", caption_hash=seven)]})
    lake.append("again", {"pairs": [pair("a", pair_id="new", latent_id="of seven")]})
    create_release(lake, "demo")
    export(open_release(lake.uri, "demo@1"), tmp_path / "out", "webdataset")
    assert json.loads(read_shards(tmp_path / "out")["a"]["json"])["captioner"] == "seven"


def test_a_folder_with_something_else_is_refused(release: Release, tmp_path: Path) -> None:
    export(release, tmp_path / "out", "webdataset")
    with pytest.raises(ValueError, match="contains an export of demo@1 as webdataset"):
        export(release, tmp_path / "out", "huggingface")
    with pytest.raises(ValueError, match="is not empty"):
        export(release, tmp_path, "huggingface")
    with pytest.raises(ValueError, match="cannot export as 'zip'"):
        export(release, tmp_path / "new", "zip")


def test_what_was_taken_down_since_is_not_given_away(lake: Lake, release: Release, tmp_path: Path) -> None:
    take_down(lake, "licence", "CC-BY-4.0", "asked for", "ann")
    with pytest.raises(ValueError, match="3 of its sources were taken down since"):
        export(release, tmp_path / "out", "webdataset")
    assert not (tmp_path / "out").exists()
