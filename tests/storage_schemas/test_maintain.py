"""Upkeep: few fragments, nothing useless on the disk, and everything that counts as it was."""

import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lance
import pytest
from lance.fragment import write_fragments

from storage_schemas import commit, compact
from storage_schemas.lake import Lake
from storage_schemas.maintain import Freed, clean, overview
from storage_schemas.releases.release import create_release, open_release
from storage_schemas.releases.verify import verify
from storage_schemas.rows import rows_to_arrow
from storage_schemas.store import LocalStore, write_json
from storage_schemas.tables import TABLES
from tests.storage_schemas.small_rows import capture_row, video_row
from tests.storage_schemas.upkeep_lake import pair, small_lake

SPAWN = multiprocessing.get_context("spawn")
NOW = timedelta(0)


def batch(number: int) -> dict[str, Any]:
    """Two videos, one stored inline and one beside the rows, and a row that every batch replaces."""
    random_bytes = random.Random(number).randbytes(20_000)
    videos = [video_row(f"v{number:03d}-small", b"few"), video_row(f"v{number:03d}", random_bytes)]
    return {"clip_videos": videos, "captures": [capture_row(f"k{number:03d}"), capture_row("all", take=str(number))]}


def fill(home: str, first: int, last: int) -> None:
    lake = Lake(home)
    for number in range(first, last):
        lake.append(f"run-{number}", batch(number))


def stored(home: str) -> dict[str, Any]:
    """Everything that counts in the lake, times apart."""
    lake = Lake(home)
    videos = lake.read("clip_videos")
    ledger = lake.read("ledger", ["table_name", "run_id", "rows", "replaced", "version"])
    return {
        "captures": lake.read("captures"),
        "videos": videos,
        "bytes": lake.blobs("clip_videos", "video", [row["clip_id"] for row in videos]),
        "ledger": sorted(ledger, key=lambda row: (row["run_id"], row["table_name"])),
    }


def fragments(lake: Lake) -> dict[str, int]:
    return {row["table"]: row["fragments"] for row in overview(lake) if row["fragments"]}


def by_place(freed: list[Freed]) -> dict[str, Freed]:
    return {place.where: place for place in freed}


@pytest.fixture
def fragmented(tmp_path: Path) -> str:
    home = str(tmp_path / "lake")
    fill(home, 0, compact.ENOUGH_BLOBS)
    return home


def test_tiny_fragments_are_merged_and_nothing_else_changes(fragmented: str) -> None:
    before, lake = stored(fragmented), Lake(fragmented)
    merged = {done.table: done for done in compact.compact(lake)}
    assert (merged["clip_videos"].before, merged["clip_videos"].rows) == (64, 128)
    assert all(count == 1 for count in fragments(lake).values())
    assert stored(fragmented) == before
    assert compact.compact(lake) == []


def test_what_would_be_merged_is_told_without_doing_it(fragmented: str) -> None:
    lake = Lake(fragmented)
    before = fragments(lake)
    told = compact.compact(lake, dry_run=True)
    assert fragments(lake) == before
    assert compact.compact(lake) == told


def test_a_table_with_few_fragments_is_left_alone(tmp_path: Path) -> None:
    fill(str(tmp_path), 0, compact.ENOUGH - 1)
    lake = Lake(tmp_path)
    assert "clip_videos" not in {done.table for done in compact.compact(lake)}
    assert fragments(lake)["clip_videos"] == compact.ENOUGH - 1


def test_video_bytes_that_were_merged_once_are_not_written_again(fragmented: str) -> None:
    lake = Lake(fragmented)
    compact.compact(lake)
    [first] = lake.dataset("clip_videos").get_fragments()
    fill(fragmented, 64, 64 + compact.ENOUGH_BLOBS)
    compact.compact(lake)
    files = [f.data_files()[0].path for f in lake.dataset("clip_videos").get_fragments()]
    assert len(files) == 2
    assert first.data_files()[0].path in files


def test_a_merge_that_would_change_a_video_does_not_count(fragmented: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before, lake = stored(fragmented), Lake(fragmented)
    original = compact._pieces

    def one_wrong(dataset: Any, table: Any, own: Any) -> Any:
        for rows, digest in original(dataset, table, own):
            yield rows, digest if own is not None or not table.blobs else "other"

    monkeypatch.setattr(compact, "_pieces", one_wrong)
    with pytest.raises(RuntimeError, match="clip_videos would change rows: it was left as it is"):
        compact.compact(lake)
    assert stored(fragmented) == before
    assert fragments(lake)["clip_videos"] == 64


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


def orphan(lake: Lake) -> None:
    """What a worker leaves that was killed after it had written its fragments."""
    data = rows_to_arrow(TABLES["clip_videos"], [video_row("lost", b"x" * 100_000) | {"run_id": "lost"}])
    write_fragments(data, lake.table_uri("clip_videos"), mode="append", enable_stable_row_ids=True)


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
    commit.begin(lake, "r1", {"shards": 1})
    commit.stage_shard(lake, "r1", 0, batch(1), {})
    orphan(lake)
    clean(lake, NOW)
    commit.commit(lake, "r1")
    assert [row["clip_id"] for row in lake.read("clip_videos")] == ["v001", "v001-small"]
    assert lake.blobs("clip_videos", "video", ["v001"]) == [random.Random(1).randbytes(20_000)]


def test_staged_bytes_that_lie_for_a_week_stay(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    commit.begin(lake, "r1", {"shards": 1, "stage": "clips"})
    commit.stage_shard(lake, "r1", 0, batch(1), {})
    age(tmp_path, "r1", timedelta(days=8))
    place = by_place(clean(lake))["tables/clip_videos"]
    assert "run r1 may have staged bytes here" in place.kept[0]
    commit.commit(lake, "r1")
    assert lake.blobs("clip_videos", "video", ["v001"]) == [random.Random(1).randbytes(20_000)]


def test_a_note_that_was_killed_long_ago_keeps_nothing_from_being_cleaned(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    commit.begin(lake, "r1", {"shards": 1})
    age(tmp_path, "r1", timedelta(days=8))
    assert by_place(clean(lake))["tables/clip_videos"].kept == ()


def age(root: Path, run_id: str, by: timedelta) -> None:
    """Make a run and all files of the lake look older."""
    lake = Lake(root)
    plan = commit.read_plan(lake, run_id)
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
    commit.begin(lake, "r1", {"shards": 2})
    commit.stage_shard(lake, "r1", 0, batch(1), {})
    assert "run r1 has no driver" in by_place(clean(lake, NOW))["runs"].kept[0]
    assert commit.staged(lake, "r1", 0)
    with lake.lock("run-r1"):
        assert "under way" in by_place(clean(lake, NOW, abandoned=True))["runs"].kept[0]
    assert commit.staged(lake, "r1", 0)
    freed = by_place(clean(lake, NOW, abandoned=True))
    assert freed["runs"].files == 3
    assert freed["tables/clip_videos"].bytes > 20_000
    assert commit.unfinished(lake) == []
    fill(str(tmp_path), 1, 2)
    assert len(lake.read("clip_videos")) == 2


def test_a_run_that_was_killed_in_its_commit_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = Lake(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(commit, "_append_ledger", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            lake.append("r1", batch(1))
    clean(lake, NOW, abandoned=True)
    assert commit.is_committed(lake, "r1")
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
    assert (place.files, place.bytes) == (2, 4)  # a tag is a file
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


# processes that are killed, and processes side by side


def die_at(step: int) -> None:
    """Die by SIGKILL right before change number `step` that upkeep makes."""
    done = 0

    def dying(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal done
            done += 1
            if done > step:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **kwargs)

        return call

    native = compact.Compaction

    def planned(*args: Any) -> Any:
        plan = native.plan(*args)
        tasks = [SimpleNamespace(execute=dying(task.execute), fragments=task.fragments) for task in plan.tasks]
        return SimpleNamespace(tasks=tasks, num_tasks=plan.num_tasks)

    compact.Compaction = SimpleNamespace(plan=planned, commit=dying(native.commit))  # type: ignore[assignment,misc]
    for owner, name in (
        (LocalStore, "delete"),
        (lance.LanceDataset, "cleanup_old_versions"),
        (lance.LanceDataset, "commit"),
    ):
        setattr(owner, name, dying(getattr(owner, name)))


def upkeep(home: str) -> None:
    lake = Lake(home)
    compact.compact(lake)
    clean(lake, NOW)


def upkeep_until(home: str, step: int) -> None:
    die_at(step)
    upkeep(home)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_before_any_change_and_run_again(tmp_path: Path) -> None:
    home = str(tmp_path / "lake")
    fill(home, 0, compact.ENOUGH_BLOBS)
    orphan(Lake(home))
    before, step, code = stored(home), 0, -signal.SIGKILL
    while code == -signal.SIGKILL:
        again = shutil.copytree(home, str(tmp_path / f"killed-{step}"))
        process = SPAWN.Process(target=upkeep_until, args=(again, step))
        process.start()
        process.join(120)
        code = process.exitcode
        assert stored(again) == before
        upkeep(again)
        assert stored(again) == before
        lake = Lake(again)
        assert fragments(lake) == {"captures": 1, "clip_videos": 1, "ledger": 1}
        assert len([n for n in lake.store.sizes("tables/clip_videos.lance/data") if n.endswith(".lance")]) == 1
        step = step + 1 if step < 14 else step + 60  # the first steps merge, the many others delete
    assert code == 0
    assert step > 100


@pytest.mark.parametrize("seed", [0, *(pytest.param(k, marks=pytest.mark.slow) for k in range(1, 8))])
def test_killed_at_any_moment_nothing_is_lost(tmp_path: Path, seed: int) -> None:
    home = str(tmp_path / "lake")
    fill(home, 0, compact.ENOUGH_BLOBS)
    before = stored(home)
    compact.compact(Lake(home))  # so that most of the time is spent in Lance's own deletes
    process = SPAWN.Process(target=upkeep_at_once, args=(home, str(tmp_path / "ready")))
    process.start()
    while not (tmp_path / "ready").exists():
        time.sleep(0.001)
    time.sleep(random.Random(seed).random() * 0.1)
    process.kill()
    process.join(60)
    assert stored(home) == before
    upkeep(home)
    assert stored(home) == before


def upkeep_at_once(home: str, ready: str) -> None:
    lake = Lake(home)
    Path(ready).touch()
    clean(lake, NOW)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_runs_that_are_committed_while_upkeep_goes_on_lose_and_double_nothing(tmp_path: Path) -> None:
    home = str(tmp_path / "lake")
    Lake(home)
    writers = [SPAWN.Process(target=fill, args=(home, first, first + 25)) for first in (0, 25)]
    for writer in writers:
        writer.start()
    rounds = 0
    while any(writer.is_alive() for writer in writers):
        upkeep(home)
        rounds += 1
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert rounds > 3
    found = stored(home)
    assert [row["clip_id"] for row in found["videos"]] == sorted(
        n for k in range(50) for n in (f"v{k:03d}", f"v{k:03d}-small")
    )
    contents = dict(zip([row["clip_id"] for row in found["videos"]], found["bytes"], strict=True))
    assert all(contents[f"v{k:03d}"] == random.Random(k).randbytes(20_000) for k in range(50))
    assert len(found["ledger"]) == 100
    assert len(found["captures"]) == 51
