"""Cleaning deletes unneeded files and keeps all data; the overview counts what is stored."""

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest

from opendimo.storage_schemas.lake import commit, compact, runs
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.maintain import Freed, clean, overview
from opendimo.storage_schemas.lake.store import write_json
from opendimo.storage_schemas.releases.release import create_release, open_release
from opendimo.storage_schemas.releases.verify import verify
from tests.rows import pair
from tests.storage_schemas.upkeep_lake import NOW, batch, content, fill, orphan, small_lake, stored


def by_place(freed: list[Freed]) -> dict[str, Freed]:
    return {place.where: place for place in freed}


def test_old_versions_go_and_the_newest_stays(fragmented: str) -> None:
    before, lake = stored(fragmented), Lake(fragmented)
    compact.compact(lake)
    size = sum(lake.store.sizes("tables/clip_videos.lance").values())
    counted, freed = by_place(clean(lake, NOW, dry_run=True)), by_place(clean(lake, NOW))
    place = freed["tables/clip_videos"]
    assert place.versions_kept == len(lake.dataset("clip_videos").versions()) == 1
    assert size - sum(lake.store.sizes("tables/clip_videos.lance").values()) == pytest.approx(place.bytes, rel=0.02)
    assert {where: place.versions for where, place in counted.items()} == {w: p.versions for w, p in freed.items()}
    assert sum(place.bytes for place in counted.values()) == pytest.approx(
        sum(p.bytes for p in freed.values()), rel=0.01
    )
    assert stored(fragmented) == before


def test_what_is_young_stays(fragmented: str) -> None:
    lake = Lake(fragmented)
    before = lake.store.sizes("")
    freed = clean(lake)
    assert sum(place.files for place in freed) == 0
    assert {**lake.store.sizes(""), **before} == lake.store.sizes("")


def test_a_release_reads_back_bit_for_bit_after_merging_and_cleaning(tmp_path: Path) -> None:
    home = str(tmp_path / "lake")
    lake = small_lake(home)
    fill(home, 0, compact.ENOUGH_BLOBS)
    release_id = create_release(lake, "demo")["release_id"]
    release = open_release(home, release_id)
    ids = release.scan("clip_videos", ["clip_id"])["clip_id"].to_pylist()
    before = {table: release.scan(table) for table in ("sources", "clips", "pairs", "clip_videos")}
    blobs = release.blobs("clip_videos", "video", ids)
    fill(home, 64, 80)
    lake.append("more", {"pairs": [pair("a") | {"pair_id": "another"}]})
    compact.compact(lake)
    freed = by_place(clean(lake, NOW))
    assert any("release.demo.1" in line for line in freed["tables/clip_videos"].kept)
    assert freed["tables/clip_videos"].versions_kept == 2
    again = open_release(home, release_id)
    assert again.sha256 == release.sha256
    assert {table: again.scan(table) for table in before} == before
    assert again.blobs("clip_videos", "video", ids) == blobs
    found = verify(lake, release_id)
    assert not found.damaged


def test_a_branch_survives_cleaning(fragmented: str) -> None:
    lake = Lake(fragmented)
    dataset = lake.dataset("captures")
    branch = dataset.create_branch("trial", dataset.version - 5)
    before = branch.to_table()
    compact.compact(lake)
    clean(lake, NOW)
    assert lake.dataset("captures").checkout_version(("trial", None)).to_table() == before


def test_orphans_of_a_killed_writer_do_not_count_and_go(tmp_path: Path) -> None:
    fill(str(tmp_path), 0, 2)
    lake, before = Lake(tmp_path), stored(str(tmp_path))
    files = lake.store.sizes("tables/clip_videos.lance/data")
    orphan(lake)
    assert stored(str(tmp_path)) == before
    place = by_place(clean(lake, NOW))["tables/clip_videos"]
    assert place.bytes > 100_000
    assert lake.store.sizes("tables/clip_videos.lance/data") == files
    assert stored(str(tmp_path)) == before


def test_what_an_unfinished_run_staged_stays_and_can_be_committed(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    runs.begin(lake, "r1", {"shards": 1})
    runs.stage_shard(lake, "r1", 0, batch(1), {})
    orphan(lake)
    clean(lake, NOW)
    commit.commit(lake, "r1")
    assert [row["clip_id"] for row in lake.read("clip_videos")] == ["v001", "v001-small"]
    assert lake.blobs("clip_videos", "video", ["v001"]) == [content(1)]


def test_staged_bytes_that_lie_for_a_week_stay(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    runs.begin(lake, "r1", {"shards": 1, "stage": "clips"})
    runs.stage_shard(lake, "r1", 0, batch(1), {})
    age(tmp_path, "r1", timedelta(days=8))
    place = by_place(clean(lake))["tables/clip_videos"]
    assert "run r1 may have files staged here" in place.kept[0]
    commit.commit(lake, "r1")
    assert lake.blobs("clip_videos", "video", ["v001"]) == [content(1)]


def test_a_note_that_was_killed_long_ago_keeps_nothing_from_being_cleaned(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    runs.begin(lake, "r1", {"shards": 1})
    age(tmp_path, "r1", timedelta(days=8))
    assert by_place(clean(lake))["tables/clip_videos"].kept == ()


def age(root: Path, run_id: str, by: timedelta) -> None:
    """Make a run and all files of the lake appear older."""
    lake = Lake(root)
    plan = runs.read_plan(lake, run_id)
    plan["started_ns"] -= int(by.total_seconds() * 1e9)
    write_json(lake.store, f"runs/{run_id}/plan.json", plan)
    for path in root.rglob("*"):
        if path.is_file():
            os.utime(path, (time.time() - by.total_seconds(),) * 2)


def test_staging_of_a_run_that_ended_goes_and_it_does_not_run_again(tmp_path: Path) -> None:
    fill(str(tmp_path), 0, 3)
    lake, before = Lake(tmp_path), stored(str(tmp_path))
    clean(lake, NOW)
    assert [name for name in lake.store.sizes("runs") if "/staged/" in name] == []
    fill(str(tmp_path), 0, 3)
    assert stored(str(tmp_path)) == before


def test_an_abandoned_run_is_reported_and_goes_only_when_asked(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    runs.begin(lake, "r1", {"shards": 2})
    runs.stage_shard(lake, "r1", 0, batch(1), {})
    assert "run r1 has no driver" in by_place(clean(lake, NOW))["runs"].kept[0]
    assert runs.staged(lake, "r1", 0)
    with lake.lock("run-r1"):
        assert "in progress" in by_place(clean(lake, NOW, abandoned=True))["runs"].kept[0]
    assert runs.staged(lake, "r1", 0)
    freed = by_place(clean(lake, NOW, abandoned=True))
    assert freed["runs"].files == 3
    assert freed["tables/clip_videos"].bytes > 20_000
    assert runs.unfinished(lake) == []
    fill(str(tmp_path), 1, 2)
    assert len(lake.read("clip_videos")) == 2


def test_a_run_that_was_killed_in_its_commit_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = Lake(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(commit, "_append_ledger", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            lake.append("r1", batch(1))
    clean(lake, NOW, abandoned=True)
    assert runs.is_committed(lake, "r1")
    assert len(lake.read("ledger")) == 2


def test_files_that_were_never_whole_go_after_an_hour(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    old = [tmp_path / "runs/r1/.plan.json.abc.tmp", tmp_path / "tables/clips.lance/_versions/7.manifest#1"]
    for path in [*old, tmp_path / "runs/r1/.young.abc.tmp"]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    for path in old:
        os.utime(path, (time.time() - 4000,) * 2)
    clean(lake, NOW)
    assert not any(path.exists() for path in old)
    assert (tmp_path / "runs/r1/.young.abc.tmp").exists()


def test_what_a_release_left_that_was_never_made_goes(tmp_path: Path) -> None:
    lake = small_lake(str(tmp_path))
    create_release(lake, "demo")
    kept = lake.store.sizes("releases")
    lake.store.write("releases/demo/2/pairs.lance/data/x.lance", b"half")
    lake.dataset("clips").tags.create("release.demo.2", lake.dataset("clips").version)
    place = by_place(clean(lake, NOW))["releases"]
    assert (place.files, place.bytes) == (2, 4)  # a tag counts as a file
    assert lake.store.sizes("releases") == kept
    assert sorted(lake.dataset("clips").tags.list()) == ["release.demo.1"]


def test_a_release_that_was_killed_before_its_row_was_committed_is_kept_for_its_completion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = small_lake(str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(commit, "commit", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            create_release(lake, "demo")
    clean(lake, NOW)
    create_release(lake, "demo")
    assert open_release(str(tmp_path), "demo@1").manifest


@pytest.mark.slow
def test_upkeep_works_on_an_object_store_too(s3: str) -> None:
    fill(s3, 0, compact.ENOUGH)
    before, lake = stored(s3), Lake(s3)
    orphan(lake)
    assert {"captures", "ledger"} <= {done.table for done in compact.compact(lake)}
    freed = by_place(clean(lake, NOW))
    assert freed["tables/clip_videos"].bytes > 100_000
    assert freed["tables/captures"].versions_kept == 1
    assert stored(s3) == before


def test_the_overview_names_sizes_and_pins(tmp_path: Path) -> None:
    lake = small_lake(str(tmp_path))
    create_release(lake, "demo")
    rows = {row["table"]: row for row in overview(lake)}
    assert (rows["clips"]["rows"], rows["clips"]["fragments"], rows["clips"]["versions"]) == (3, 1, 2)
    assert rows["clips"]["pinned_by"] == ["release.demo.1"]
    assert rows["clip_videos"]["bytes"] == sum(lake.store.sizes("tables/clip_videos.lance").values()) > 60_000
