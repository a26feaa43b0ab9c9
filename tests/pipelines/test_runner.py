"""Planning and the Ray runner: every input is accounted for, whichever process dies."""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from opendimo.pipelines.engine.planned import Planned
from opendimo.pipelines.engine.planning import account, finish, prepare, stage_outcome
from opendimo.pipelines.engine.runner import DEATHS, Pool, pool_size, ray_session
from opendimo.pipelines.engine.stage import DataError, Needs, Outcome, TransientError, Work, run_each
from opendimo.storage_schemas.lake.lake import Lake


@dataclass(frozen=True)
class Config:
    """Configures for which items the test stage fails, hangs or kills its process."""

    corrupt: tuple[str, ...] = ()
    busy: tuple[str, ...] = ()
    deadly: tuple[str, ...] = ()
    endless: tuple[str, ...] = ()
    flag: str = ""
    deaths: int = 1


def row(work: Work) -> dict:
    """Return the row of a piece of work."""
    return {"capture_id": work.item_id, "kind": "internet", "views": [], "sync_method": "single", "take": ""}


class CaptureStage:
    """A stage that fills `captures`; items in its config are corrupt, hit a busy server, hang or kill the process."""

    name, version, weights = "captures", "1", ""
    needs = Needs()

    def __init__(self, config: Config) -> None:
        self.config = config

    def setup(self) -> None:
        pass

    def run(self, batch: list[Work]) -> Outcome:
        return run_each(batch, self._make)

    def _make(self, work: Work) -> dict:
        if work.item_id in self.config.corrupt:
            raise DataError("corrupt")
        if work.item_id in self.config.busy:
            raise TransientError("busy")
        if work.item_id in self.config.deadly or self._dies():
            os.kill(os.getpid(), signal.SIGKILL)
        if work.item_id in self.config.endless:
            time.sleep(600)
        return {"captures": [row(work)]}

    def _dies(self) -> bool:
        """Return whether to kill the process: `deaths` times, counted in a file across workers."""
        flag = Path(self.config.flag) if self.config.flag else None
        died = len(flag.read_bytes()) if flag is not None and flag.exists() else 0
        if flag is None or died == self.config.deaths:
            return False
        flag.write_bytes(bytes(died + 1))
        return True


class DeadlyRow(dict):
    """A row that kills the process that stages it."""

    def __init__(self, stage: CaptureStage, row: dict) -> None:
        super().__init__(row)
        self.stage = stage

    def __getitem__(self, column: str) -> object:
        if self.stage._dies():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(column)


class StagingStage(CaptureStage):
    """Dies while staging, after all of its work is done."""

    def _make(self, work: Work) -> dict:
        return {"captures": [row(work)]}

    def run(self, batch: list[Work]) -> Outcome:
        outcome = super().run(batch)
        outcome.rows["captures"] = [DeadlyRow(self, made) for made in outcome.rows["captures"]]
        return outcome


def works(count: int) -> Planned:
    return Planned.of(Work(f"key-{i:03d}", f"item-{i}", f"item {i}") for i in range(count))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with ray_session(cpus=2):
        yield


def run_here(lake: Lake, stage: CaptureStage, todo: Planned) -> int:
    """Run a stage in this process; return the number of works that were run."""
    with prepare(lake, stage, todo, shard_size=2) as run:
        for k, shard in enumerate(run.shards):
            stage_outcome(lake, run.shard(k), stage, stage.run(shard))
        if run.shards:
            finish(lake, run)
        return run.size


def run_on_ray(lake: Lake, stage: CaptureStage, todo: Planned) -> int:
    finished: dict[int, int] = {}
    with prepare(lake, stage, todo, shard_size=3) as run:
        with Pool(stage, lake, pool_size(stage, len(run.shards))) as pool:
            for k in range(len(run.shards)):
                pool.run_shard(run.shard(k), lambda items, _, k=k: finished.update({k: items}))
        finish(lake, run)
    return sum(finished.values())


def test_a_second_run_has_nothing_to_do(lake: Lake) -> None:
    stage = CaptureStage(Config(corrupt=("item-1",)))
    assert run_here(lake, stage, works(5)) == 5
    assert run_here(lake, stage, works(5)) == 0
    assert run_here(lake, stage, works(7)) == 2
    counted = account(lake, stage, works(7))
    assert (counted.inputs, counted.done, counted.rejected) == (7, 6, {"data": 1})


def test_a_transient_failure_waits_for_its_time(lake: Lake) -> None:
    assert run_here(lake, CaptureStage(Config(busy=("item-0",))), works(2)) == 2
    assert run_here(lake, CaptureStage(Config()), works(2)) == 0
    assert lake.read("rejects")[0]["next_attempt_at"] is not None


def test_a_due_failure_is_tried_again_and_then_done(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opendimo.pipelines.engine.retries.BACKOFF_NS", 0)
    assert run_here(lake, CaptureStage(Config(busy=("item-0",))), works(2)) == 2
    assert run_here(lake, CaptureStage(Config()), works(2)) == 1
    assert account(lake, CaptureStage(Config()), works(2)).done == 2


def test_attempts_are_bounded(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opendimo.pipelines.engine.retries.BACKOFF_NS", 0)
    stage = CaptureStage(Config(busy=("item-0",)))
    assert [run_here(lake, stage, works(1)) for _ in range(5)] == [1, 1, 1, 0, 0]
    assert sorted(r["attempts"] for r in lake.read("rejects")) == [1, 2, 3]


def test_work_without_an_answer_is_noticed(lake: Lake) -> None:
    stage = CaptureStage(Config())
    with (
        prepare(lake, stage, works(2), shard_size=2) as run,
        pytest.raises(AssertionError, match="completed or rejected 1 of 2"),
    ):
        stage_outcome(lake, run.shard(0), stage, stage.run(works(1).all()))
    with pytest.raises(AssertionError, match="2 inputs, but 0 accounted for"):
        account(lake, stage, works(2))


def test_workers_fill_the_table(lake: Lake, cluster: None) -> None:
    stage = CaptureStage(Config(corrupt=("item-2",)))
    assert run_on_ray(lake, stage, works(7)) == 7
    counted = account(lake, stage, works(7))
    assert (counted.done, counted.rejected) == (6, {"data": 1})


@pytest.mark.parametrize("kind", [CaptureStage, StagingStage])
def test_workers_that_die_of_something_else_cost_nothing(
    lake: Lake, cluster: None, tmp_path: Path, kind: type[CaptureStage]
) -> None:
    """They die on one piece of work, or while staging."""
    stage = kind(Config(flag=str(tmp_path / "died"), deaths=DEATHS - 1 if kind is CaptureStage else DEATHS))
    assert run_on_ray(lake, stage, works(4)) == 4
    assert (account(lake, stage, works(4)).done, lake.read("rejects")) == (4, [])
    assert len((tmp_path / "died").read_bytes()) == stage.config.deaths


def test_what_kills_every_worker_is_rejected_alone(lake: Lake, cluster: None) -> None:
    stage = CaptureStage(Config(deadly=("item-1",)))
    run_on_ray(lake, stage, works(4))
    assert account(lake, stage, works(4)).done == 3
    reject = lake.read("rejects")[0]
    assert (reject["item_id"], reject["error_class"]) == ("item-1", "bug")
    assert "died" in reject["message"]


def test_what_takes_too_long_is_rejected_alone(lake: Lake, cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opendimo.pipelines.engine.runner.SLACK", 0.5)
    monkeypatch.setattr("opendimo.pipelines.engine.runner.DEATHS", 2)
    stage = CaptureStage(Config(endless=("item-1",)))
    stage.needs = Needs(timeout_s=2.0)
    run_on_ray(lake, stage, works(4))
    assert account(lake, stage, works(4)).done == 3
    [reject] = lake.read("rejects")
    assert (reject["item_id"], reject["error_class"]) == ("item-1", "bug")
    assert "given up after 2 attempts: the last took longer than the time limit of 1 s" in reject["message"]


def test_what_fits_nowhere_is_said(cluster: None) -> None:
    stage = CaptureStage(Config())
    stage.needs = Needs(gpus=1)
    with pytest.raises(ValueError, match="captures needs 1 GPU, the cluster has 0"):
        pool_size(stage, 3)
