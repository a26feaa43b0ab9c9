"""Planning: open work, run ownership and ledger counts are exact, even if runs are interrupted or overlap."""

import multiprocessing
from collections import Counter
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opendimo.pipelines.captions.qwen import QwenLocal
from opendimo.pipelines.captions.stage import CaptionsConfig, CaptionsStage
from opendimo.pipelines.captions.stage import plan as plan_captions
from opendimo.pipelines.engine import planning, retries
from opendimo.pipelines.engine.columns import distinct, json_lists, json_strings, last_of
from opendimo.pipelines.engine.planned import Planned
from opendimo.pipelines.engine.planning import account, finish, prepare, stage_outcome
from opendimo.pipelines.engine.rejects import MOST_ATTEMPTS, Choice, group_rejects, rejects, retry
from opendimo.pipelines.engine.revisions import newest
from opendimo.pipelines.engine.work_status import Account
from opendimo.pipelines.poses.fit_config import FitConfig
from opendimo.pipelines.poses.stage import PosesConfig, PosesStage
from opendimo.pipelines.poses.stage import plan as plan_poses
from opendimo.pipelines.progress import forecast
from opendimo.pipelines.progress.status import funnel, pending
from opendimo.pipelines.quality.policy import Policy
from opendimo.storage_schemas.ids import work_key, work_keys
from opendimo.storage_schemas.lake import runs
from opendimo.storage_schemas.lake.lake import Lake
from tests.pipelines import report_lake
from tests.pipelines.caption_lake import clip_row, pose_row
from tests.pipelines.cheap_stage import CheapConfig, CheapStage, drive, run_all

ITEMS = [f"item-{k}" for k in range(8)]
EXAMPLES = count()


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake shared by examples that use distinct items."""
    return Lake(tmp_path_factory.mktemp("shared") / "lake")


def counted(lake: Lake, stage: str = "captions") -> Account:
    """Return the account of a stage as in `dimo status`; raises if the ledger and the tables do not agree."""
    return next(found for found in funnel(lake, Policy()) if found.stage == stage)


def kill_in_the_middle(lake: Lake, stage: CheapStage, items: list[str], shards: int) -> None:
    """Simulate a driver that dies after staging some shards of 2."""
    with pytest.raises(KeyboardInterrupt), prepare(lake, stage, stage.plan(items), shard_size=2) as run:
        for k in range(shards):
            stage_outcome(lake, run.shard(k), stage, stage.run(run.shards[k]))
        raise KeyboardInterrupt


# keys and columns


@given(st.lists(st.tuples(st.text(max_size=8), st.none() | st.text(max_size=8)), min_size=1), st.text(max_size=4))
def test_keys_made_of_columns_are_those_of_objects(rows: list[tuple[str, str | None]], version: str) -> None:
    columns = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
    contents = json_lists(*map(json_strings, columns)).to_pylist()
    config = CheapConfig(3)
    assert work_keys(contents, "s", version, config, "w") == [work_key(r, "s", version, config, "w") for r in rows]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["x", None]), st.integers(0, 9))))
def test_the_last_of_each_group_is_found(rows: list[tuple[str, str | None, int]]) -> None:
    names = ["a", "b", "n"]
    data = pa.table({name: [row[k] for row in rows] for k, name in enumerate(names)})
    data = data.cast(pa.schema([("a", pa.string()), ("b", pa.string()), ("n", pa.int64())]))
    last = {row[:2]: row[2] for row in sorted(rows, key=lambda row: row[2])}
    found = last_of(data, ["a", "b"], lambda several: [several["n"]]).to_pylist()
    assert sorted((r["a"], r["b"] or "", r["n"]) for r in found) == sorted(
        (a, b or "", n) for (a, b), n in last.items()
    )
    assert distinct(data, ["a", "b"]).num_rows == len(last)


# open work


class Model:
    """A simple reference model of planning."""

    def __init__(self, patient: bool) -> None:
        self.patient = patient
        self.done: set[tuple[str, int]] = set()
        self.failed: dict[tuple[str, int], tuple[str, int]] = {}  # class, attempts

    def left(self, items: set[str], number: int) -> set[str]:
        works = {(item, number) for item in items} - self.done
        return {work[0] for work in works if work not in self.failed or self._due(*self.failed[work])}

    def run(self, items: set[str], number: int, corrupt: set[str], busy: set[str]) -> None:
        for item in self.left(items, number):
            _, attempts = self.failed.get((item, number), ("", 0))
            if item in corrupt | busy:
                self.failed[item, number] = ("data" if item in corrupt else "transient", attempts + 1)
            else:
                self.done.add((item, number))

    def _due(self, kind: str, attempts: int) -> bool:
        return kind == "transient" and not self.patient and attempts < retries.MAX_ATTEMPTS


some = st.sets(st.sampled_from(ITEMS))
requests = st.lists(st.tuples(some, st.integers(0, 1), some, some), min_size=1, max_size=4)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(runs=requests, patient=st.booleans(), limit=st.integers(1, 9))
def test_what_is_left_is_what_a_plain_account_says(
    runs: list, patient: bool, limit: int, shared: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "BACKOFF_NS", 10**18 if patient else 0)
    model, salt = Model(patient), next(EXAMPLES)

    def named(items: set[str]) -> frozenset[str]:
        return frozenset(f"{salt} {item}" for item in items)

    for items, number, corrupt, busy in runs:
        stage = CheapStage(CheapConfig(number), named(corrupt), named(busy))
        planned = stage.plan(named(items))
        assert forecast(shared, "captions", planned).left == len(model.left(items, number))
        with prepare(shared, stage, planned, 2, limit) as run:
            first = {work.item_id for shard in run.shards for work in shard}
        assert len(first) == min(limit, len(model.left(items, number))) and first <= named(model.left(items, number))
        run_all(shared, stage, named(items), limit)
        while model.left(items, number):
            model.run(items, number, corrupt, busy)
        final = account(shared, stage, planned)
        assert final.done == len({(item, number) for item in items} & model.done)
    counted(shared)


def test_a_plan_of_finished_work_is_empty_and_changes_nothing(lake: Lake) -> None:
    stage = CheapStage()
    assert run_all(lake, stage, ITEMS, limit=3) == 8
    before = [lake.dataset(name).version for name in ("captions", "rejects", "ledger")]
    assert run_all(lake, stage, ITEMS) == 0
    assert [lake.dataset(name).version for name in ("captions", "rejects", "ledger")] == before
    assert sorted(stage.ran) == ITEMS


def test_a_forecast_is_what_the_run_does(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    run_all(lake, CheapStage(corrupt=frozenset({"item-0"}), busy=frozenset({"item-1"})), ITEMS[:4])
    run_all(lake, CheapStage(CheapConfig(1)), ITEMS[:5])
    stage = CheapStage()
    found = forecast(lake, "captions", stage.plan(ITEMS))
    expected = {"inputs": 8, "done": 2, "failed": 1, "waiting": 1, "left": 4, "stale": 1, "new": 3, "due": 0}
    assert expected.items() <= vars(found).items()
    assert run_all(lake, stage, ITEMS) == found.left
    after = forecast(lake, "captions", stage.plan(ITEMS))
    assert (after.left, after.done) == (0, found.done + found.left)
    retry(lake, Choice(error_class="transient"))
    assert forecast(lake, "captions", stage.plan(ITEMS)).due == 1


# changes that create new work


@pytest.fixture
def labelled(lake: Lake) -> Lake:
    """A lake of three kept clips with poses and captions of the default configs."""
    clips = [clip_row(name, sharpness=30.0 * (k + 1)) for k, name in enumerate("abc")]
    lake.append("clips", {"clips": clips})
    poses = plan_poses(lake, PosesStage(lake.uri, PosesConfig()), Policy()).all()
    rows = [{**pose_row(work.item_id, np.zeros((2, 3))), "work_key": work.key} for work in poses]
    lake.append("poses", {"poses": rows})
    captions = plan_captions(lake, CaptionsStage(lake.uri, CaptionsConfig()), Policy()).all()
    rows = [{**report_lake.caption_row(work.item_id, "text"), "clip_id": work.item_id} for work in captions]
    keyed = [{**row, "work_key": work.key} for row, work in zip(rows, captions, strict=True)]
    lake.append("captions", {"captions": keyed})
    return lake


def forecasts(
    lake: Lake, captions: CaptionsConfig | None = None, poses: PosesConfig | None = None, policy: Policy | None = None
) -> dict[str, tuple[int, int, int]]:
    """Return the inputs, done and stale counts of both stages."""
    plans = {
        "poses": plan_poses(lake, PosesStage(lake.uri, poses or PosesConfig()), policy or Policy()),
        "captions": plan_captions(lake, CaptionsStage(lake.uri, captions or CaptionsConfig()), policy or Policy()),
    }
    found = {name: forecast(lake, name, planned) for name, planned in plans.items()}
    assert all(f.new == 0 for f in found.values())
    return {name: (f.inputs, f.done, f.stale) for name, f in found.items()}


def test_another_config_makes_exactly_its_own_stage_stale(labelled: Lake) -> None:
    assert forecasts(labelled) == {"poses": (3, 3, 0), "captions": (3, 3, 0)}
    other = PosesConfig(fit=FitConfig(iterations=5))
    assert forecasts(labelled, poses=other) == {"poses": (3, 0, 3), "captions": (3, 3, 0)}


def test_another_model_makes_exactly_its_own_rows_stale(labelled: Lake) -> None:
    other = CaptionsConfig(vlm=QwenLocal("hub/model", device="cpu"))
    assert forecasts(labelled, captions=other) == {"poses": (3, 3, 0), "captions": (3, 0, 3)}


def test_another_threshold_recomputes_nothing(labelled: Lake) -> None:
    strict, lax = Policy(min_sharpness=50.0), Policy(min_sharpness=0.0)
    assert forecasts(labelled, policy=strict) == {"poses": (2, 2, 0), "captions": (2, 2, 0)}
    assert forecasts(labelled, policy=lax) == forecasts(labelled)


def test_the_revision_that_was_asked_for_last_is_current_also_where_it_was_there_already(lake: Lake) -> None:
    def current() -> set[str]:
        return set(newest(lake, "captions", ["clip_id"], ["text"])["text"].to_pylist())

    for number, work in ((0, 8), (1, 8), (0, 0)):
        assert run_all(lake, CheapStage(CheapConfig(number)), ITEMS) == work
        assert current() == {str(number)}
    ledger = lake.dataset("ledger").version
    run_all(lake, CheapStage(CheapConfig(0)), ITEMS)
    assert lake.dataset("ledger").version == ledger  # recorded once
    assert counted(lake).done == 16


# runs that were interrupted


def test_the_same_request_goes_on_where_it_was_killed(lake: Lake) -> None:
    stage = CheapStage()
    kill_in_the_middle(lake, stage, ITEMS, shards=2)
    with prepare(lake, stage, stage.plan(ITEMS), shard_size=5) as run:
        assert [len(shard) for shard in run.shards] == [2, 2, 2, 2]  # same shards as in the first attempt
        assert [runs.staged(lake, run.run_id, k) is not None for k in range(4)] == [True, True, False, False]


@pytest.mark.parametrize("shards", [0, 2, 4])
def test_what_a_dead_driver_staged_is_not_lost_where_the_inputs_changed(lake: Lake, shards: int) -> None:
    stage = CheapStage()
    kill_in_the_middle(lake, stage, ITEMS, shards)
    more = [*ITEMS, "one more"]
    assert run_all(lake, stage, more) == 9 - 2 * shards
    assert Counter(stage.ran) == Counter(more)
    assert runs.unfinished(lake) == []
    assert (counted(lake).inputs, counted(lake).done) == (9, 9)


def test_a_run_whose_driver_lives_is_left_alone(lake: Lake) -> None:
    stage = CheapStage()
    with prepare(lake, stage, stage.plan(ITEMS[:4]), shard_size=2) as run:
        stage_outcome(lake, run.shard(0), stage, stage.run(run.shards[0]))
        assert run_all(lake, stage, ITEMS[4:]) == 4
        assert not runs.is_committed(lake, run.run_id)
        stage_outcome(lake, run.shard(1), stage, stage.run(run.shards[1]))
        finish(lake, run)
    assert counted(lake).done == 8


# several drivers


def drive_at_once(lake: Lake, plans: list[list[str]], seen: Path) -> list[str]:
    """Start drivers of these plans together; return all items that they ran."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=drive, args=(lake.uri, items, k, seen)) for k, items in enumerate(plans)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * len(plans)
    return [line for file in sorted(seen.iterdir()) for line in file.read_text().splitlines()]


def test_drivers_with_overlapping_work_leave_each_row_once_and_an_exact_account(lake: Lake, tmp_path: Path) -> None:
    items = [f"item-{k}" for k in range(24)]
    seen = tmp_path / "seen"
    seen.mkdir()
    drive_at_once(lake, [items[:16], items[8:], items[4:20]], seen)
    ids = lake.column("captions", "caption_id").to_pylist()
    assert len(ids) == len(set(ids)) == 23
    assert counted(lake) == Account("captions", 24, 23, {}, {"data": 1})


def test_a_second_driver_of_the_same_request_waits_and_has_nothing_to_do(lake: Lake, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    seen.mkdir()
    assert sorted(drive_at_once(lake, [ITEMS, ITEMS], seen)) == ITEMS
    assert counted(lake) == Account("captions", 8, 7, {}, {"data": 1})


# failures


def test_failures_wait_longer_each_time_and_end(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    stage, now = CheapStage(busy=frozenset({"item-0"})), 10**18
    monkeypatch.setattr(planning.time, "time_ns", lambda: now)
    waits = []
    for _ in range(3):
        assert run_all(lake, stage, ITEMS[:1]) == 1
        assert run_all(lake, stage, ITEMS[:1]) == 0
        [row] = rejects(lake).to_pylist()
        waits.append(row["next_attempt_at"] and (row["next_attempt_at"] - now) / retries.BACKOFF_NS)
        now = row["next_attempt_at"] or now * 2
    assert waits == [1, 2, None]
    assert run_all(lake, stage, ITEMS[:1]) == 0


def test_a_failure_that_was_overcome_leaves_no_trace_in_the_account(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This also holds if the row is replaced later, as in `sources`."""
    monkeypatch.setattr(retries, "BACKOFF_NS", 0)

    class Sources(CheapStage):
        def _row(self, work: object) -> dict[str, list[dict]]:
            super()._row(work)
            return {"sources": [report_lake.source_row("a")]}

    for number, busy in ((0, {"a"}), (0, set()), (1, set()), (0, set())):
        stage = Sources(CheapConfig(number), name="sources", busy=frozenset(busy))
        if busy:  # one attempt
            with prepare(lake, stage, stage.plan(["a"]), 1) as run:
                stage_outcome(lake, run.shard(0), stage, stage.run(run.shards[0]))
                finish(lake, run)
        else:
            assert run_all(lake, stage, ["a"]) == 1
        done = 0 if busy else 1
        assert counted(lake, "sources") == Account("sources", 1, done, {}, {"transient": 1} if busy else {})
    assert rejects(lake).num_rows == 0


def test_a_retry_is_one_more_attempt_and_asking_twice_is_asking_once(lake: Lake) -> None:
    stage = CheapStage(corrupt=frozenset({"item-0", "item-1"}))
    run_all(lake, stage, ITEMS)
    for _ in range(2):
        found = retry(lake, Choice("data", "captions", "is corrupt", "item-0"))
        assert (found.due["item_id"].to_pylist(), found.refused.num_rows) == (["item-0"], 0)
    assert pending(rejects(lake))["captions"].due == 1
    assert run_all(lake, replace(stage, corrupt=frozenset(), ran=[]), ITEMS) == 1
    assert rejects(lake)["item_id"].to_pylist() == ["item-1"]
    assert counted(lake) == Account("captions", 8, 7, {}, {"data": 1})


def test_what_was_tried_too_often_is_refused_unless_forced(lake: Lake) -> None:
    stage = CheapStage(corrupt=frozenset({"item-0"}))
    for attempt in range(1, MOST_ATTEMPTS + 1):
        assert run_all(lake, stage, ITEMS[:1]) == 1
        found = retry(lake, Choice())
        assert (found.due.num_rows, found.refused.num_rows) == ((1, 0) if attempt < MOST_ATTEMPTS else (0, 1))
    assert run_all(lake, stage, ITEMS[:1]) == 0
    assert retry(lake, Choice(), force=True).due.num_rows == 1
    assert run_all(lake, stage, ITEMS[:1]) == 1
    assert rejects(lake)["attempts"].to_pylist() == [MOST_ATTEMPTS + 1]


def test_the_same_failure_a_thousand_times_is_one_line(lake: Lake) -> None:
    items = [f"item-{k}" for k in range(1000)]
    stage = CheapStage(corrupt=frozenset(items))
    run_all(lake, stage, items, shard_size=256)
    [group] = group_rejects(rejects(lake))
    assert (group.count, group.unnamed, group.error_class) == (1000, 997, "data")
    assert group.message == "name of item-0 is corrupt"


def test_a_plan_of_nothing_is_empty(lake: Lake) -> None:
    stage = CaptionsStage(lake.uri, CaptionsConfig())
    planned: Planned = plan_captions(lake, stage, Policy())
    assert (len(planned), planned.all()) == (0, [])
    assert account(lake, stage, planned).inputs == 0
    with prepare(lake, stage, planned, 64) as run:
        assert run.shards == []
    assert lake.dataset("ledger").count_rows() == 0
