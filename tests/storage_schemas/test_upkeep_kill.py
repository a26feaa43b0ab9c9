"""Compaction and cleaning lose no data if they are killed or run concurrently with writers."""

import random
import shutil
import time
from pathlib import Path

import pytest

from opendimo.storage_schemas.lake import compact
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.maintain import clean
from tests.storage_schemas.killing import SPAWN, killed
from tests.storage_schemas.upkeep_lake import NOW, content, fill, fragments, orphan, stored, upkeep


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_before_any_change_and_run_again(tmp_path: Path) -> None:
    home = str(tmp_path / "lake")
    fill(home, 0, compact.ENOUGH_BLOBS)
    orphan(Lake(home))
    before, step, died = stored(home), 0, True
    while died:
        again = shutil.copytree(home, str(tmp_path / f"killed-{step}"))
        died = killed(step, upkeep, again)
        assert stored(again) == before
        upkeep(again)
        assert stored(again) == before
        lake = Lake(again)
        assert fragments(lake) == {"captures": 1, "clip_videos": 1, "ledger": 1}
        assert len([n for n in lake.store.sizes("tables/clip_videos.lance/data") if n.endswith(".lance")]) == 1
        step += (
            62 if 14 <= step < 200 else 1
        )  # the first steps merge, then there are many deletions, the last ones clean
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
    assert all(contents[f"v{k:03d}"] == content(k) for k in range(50))
    assert len(found["ledger"]) == 100
    assert len(found["captures"]) == 51
