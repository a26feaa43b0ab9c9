"""Estimates of time and disk space from earlier runs or from a sample."""

import json
import os
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from opendimo.pipelines.engine.planned import Planned
from opendimo.pipelines.engine.planning import finish, prepare, stage_outcome
from opendimo.pipelines.engine.stage import Needs
from opendimo.pipelines.engine.timing import run_timing
from opendimo.pipelines.progress import Tried, forecast, measured, try_out
from opendimo.pipelines.progress.rates import Rates
from opendimo.pipelines.progress.sizes import DOWNLOAD_START, Sizes
from opendimo.pipelines.sources import SourcesConfig, SourcesStage, discover
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.store import read_json, write_json
from opendimo.storage_schemas.media.video import encode
from tests.pipelines.cheap_stage import CheapConfig, CheapStage
from tests.pipelines.media_server import VIDEO, MediaServer
from tests.pipelines.report_lake import clip_row


class SeesGpus(CheapStage):
    """Writes the GPUs it may use into its rows."""

    def setup(self) -> None:
        self.config = CheapConfig(os.environ["CUDA_VISIBLE_DEVICES"])


def run(lake: Lake, stage: CheapStage, planned: Planned, limit: int, seconds: float, away: Lake | None = None) -> None:
    """Run `limit` pieces of work that start together and take `seconds` per frame; as a sample if `away` is given."""
    frames, out = {row["clip_id"]: row["frames"] for row in lake.read("clips", ["clip_id", "frames"])}, away or lake
    with prepare(out, stage, planned, shard_size=limit, limit=limit) as found:
        outcome = stage.run(found.shards[0])
        outcome.times = {work.key: (0, round(1e9 * seconds * frames[work.item_id])) for work in found.shards[0]}
        stage_outcome(out, found.shard(0), stage, outcome)
        finish(out, found)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A lake of 40 clips, half of them ten times as long."""
    lake = Lake(tmp_path / "lake")
    clips = [clip_row(f"{k}", frames=100 * (10 if k % 2 else 1), video_sha256=None) for k in range(40)]
    lake.append("clips", {"clips": clips})
    return lake


def items(lake: Lake) -> list[str]:
    return [row["clip_id"] for row in lake.read("clips", ["clip_id"])]


def test_long_clips_are_expected_to_take_longer(lake: Lake) -> None:
    stage = CheapStage()
    planned = stage.plan(items(lake))
    run(lake, stage, planned, 10, seconds=0.01)
    found = forecast(lake, "captions", planned)
    frames = {row["clip_id"]: row["frames"] for row in lake.read("clips", ["clip_id", "frames"])}
    done = {row["clip_id"] for row in lake.read("captions", ["clip_id"])}
    left = sum(frames[name] for name in frames if name not in done)
    counts = json.loads(lake.read("ledger", ["counts"], "stage = 'captions'")[0]["counts"])
    assert found.left == 30 and found.basis == "10 items of 1 run"
    assert found.seconds == pytest.approx(0.01 * left * counts["active"] / counts["busy"], rel=1e-6)
    assert found.least == pytest.approx(found.seconds) and found.most == pytest.approx(found.seconds)  # all alike
    assert found.bytes > 0


def test_the_time_between_a_stop_and_a_resumption_is_not_expected_again(lake: Lake) -> None:
    stage = CheapStage()
    planned = stage.plan(items(lake))
    with prepare(lake, stage, planned, shard_size=10, limit=10) as stopped:
        plan = f"runs/{stopped.run_id}/plan.json"
        write_json(lake.store, plan, {**read_json(lake.store, plan), "started_ns": 0})
    run(lake, stage, planned, 10, seconds=0.01)
    entry = lake.read("ledger", ["run_id", "seconds"], "stage = 'captions'")[0]
    assert entry["run_id"] == stopped.run_id and entry["seconds"] > 1e9
    assert measured(lake, "captions", planned.revision).start < 60
    assert forecast(lake, "captions", planned).seconds < 600


def test_the_start_of_workers_is_that_of_the_quickest_run_of_which_it_is_known(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = CheapStage()
    planned = stage.plan(items(lake))
    for idle in ({"idle": 9.0}, {"idle": 4.0}, {}):
        monkeypatch.setattr(
            "opendimo.pipelines.engine.planning.run_timing", lambda *clocks, idle=idle: {**run_timing(*clocks), **idle}
        )
        run(lake, stage, planned, 10, seconds=0.01)
    assert measured(lake, "captions", planned.revision).start == 4.0


def test_runs_of_another_config_count_only_where_there_is_no_other(lake: Lake) -> None:
    old, new = CheapStage(CheapConfig(1)), CheapStage(CheapConfig(2))
    run(lake, old, old.plan(items(lake)), 10, seconds=1.0)
    assert forecast(lake, "captions", new.plan(items(lake))).basis == "10 items of 1 run with another version or config"
    run(lake, new, new.plan(items(lake)), 5, seconds=0.01)
    assert forecast(lake, "captions", new.plan(items(lake))).basis == "5 items of 1 run"


def test_without_a_run_nothing_is_claimed(lake: Lake) -> None:
    found = forecast(lake, "captions", CheapStage().plan(items(lake)))
    assert (found.seconds, found.least, found.most, found.bytes) == (None, None, None, None)
    assert found.basis == "no run yet: try --sample 4"


def test_nine_of_ten_totals_lie_within_what_is_said() -> None:
    random, within = np.random.default_rng(3), 0
    for _ in range(300):
        units = random.uniform(10, 100, 220)
        seconds = units * random.gamma(4, 0.25, 220)
        few = Sizes(np.full(20, "", object), units[:20])
        rates = Rates(few, seconds[:20], 1, 1.0, 0.0, True)
        _, least, most = rates.time(Sizes(np.full(200, "", object), units[20:]))
        within += least <= seconds[20:].sum() <= most
    assert 0.82 <= within / 300 <= 0.95


def test_a_sort_that_was_measured_is_not_mixed_with_others() -> None:
    sizes = Sizes(np.array(["unreal", "internet"], object), np.array([10.0, 10.0]))
    rates = Rates(sizes, np.array([1.0, 100.0]), 1, 2.0, 3.0, True)
    seconds, _, _ = rates.time(Sizes(np.array(["unreal"], object), np.array([1000.0])))
    assert seconds == 3.0 + 1000 * (1.0 / 10.0) / 2


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "videos"
    root.mkdir()
    for k in range(12):
        (root / f"{k:02d}.mp4").write_bytes(encode([np.full((32, 32, 3), 20 * k, np.uint8)] * 5, Fraction(24)))
    return root


def test_a_few_items_are_tried_in_a_lake_of_their_own(folder: Path, tmp_path: Path) -> None:
    lake, away = Lake(tmp_path / "lake"), Lake(tmp_path / "away")
    planned = Planned.of(discover("internet", folder, SourcesConfig()))
    tried = try_out(lake, away, SourcesStage(away.uri, SourcesConfig()), planned, 3, time.monotonic() + 100)
    assert lake.dataset("sources").count_rows() == 0
    found = forecast(lake, "sources", planned, tried)
    assert found.tried and 3 <= found.measured < 12 and found.basis == f"{found.measured} items sampled"
    assert 0 < found.least <= found.seconds <= found.most and found.bytes > 0


def test_what_takes_too_long_to_try_is_ended(folder: Path, tmp_path: Path) -> None:
    lake, away = Lake(tmp_path / "lake"), Lake(tmp_path / "away")
    planned = Planned.of(discover("internet", folder, SourcesConfig()))
    tried = try_out(lake, away, SourcesStage(away.uri, SourcesConfig()), planned, 3, time.monotonic() + 0.01)
    assert forecast(lake, "sources", planned, tried).basis == "no sampled item finished in time: raise --sample-minutes"


def test_items_that_were_tried_are_as_large_as_the_lake_says_that_they_are_in(lake: Lake, tmp_path: Path) -> None:
    away, stage = Lake(tmp_path / "away"), CheapStage()
    planned = stage.plan(items(lake))
    run(lake, stage, planned, 4, seconds=0.01, away=away)
    found = forecast(lake, "captions", planned, Tried(away, lake, planned, count=4))
    total = sum(row["frames"] for row in lake.read("clips", ["frames"]))
    assert (found.left, found.basis) == (40, "4 items sampled")
    assert found.seconds == pytest.approx(0.01 * total / 4) and found.most == pytest.approx(found.seconds)  # all alike


def test_a_trial_that_tells_nothing_says_why(lake: Lake, tmp_path: Path) -> None:
    away, stage = Lake(tmp_path / "away"), CheapStage(corrupt=frozenset(items(lake)))
    for planned, why in (
        (stage.plan([]), "no run yet, and no work left to sample"),
        (stage.plan(items(lake)), "all sampled items failed"),
    ):
        tried = try_out(lake, away, stage, planned, 3, time.monotonic() + 100)
        assert forecast(lake, "captions", planned, tried).basis == why


@pytest.mark.parametrize(
    ("needs", "workers"),
    [
        (Needs(memory_gb=1e6), ["5,7"]),
        (Needs(gpus=1.0), ["5", "7"]),
        (Needs(gpus=2.0), ["5,7"]),
    ],
)
def test_no_more_are_tried_at_once_than_memory_and_gpus_allow(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needs: Needs, workers: list[str]
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    away, stage = Lake(tmp_path / "away"), SeesGpus(needs=needs)
    tried = try_out(lake, away, stage, stage.plan(items(lake)), 3, time.monotonic() + 100)
    seen = [row["text"] for row in away.read("captions", ["text"])]
    assert sorted(set(seen)) == workers and len(seen) == tried.count == 3 + len(workers)


def test_what_needs_a_gpu_is_not_tried_without_one(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    stage = CheapStage(needs=Needs(gpus=1.0))
    with pytest.raises(ValueError, match="needs 1 GPU, this machine has 0; plan without --sample"):
        try_out(lake, Lake(tmp_path / "away"), stage, stage.plan(items(lake)), 3, time.monotonic() + 100)


def test_disk_of_downloads_is_that_of_files_like_those_fetched(server: MediaServer, tmp_path: Path) -> None:
    table = tmp_path / "urls.csv"
    table.write_text("url\n" + "".join(f"{server.url}/video/{k}.mp4\n" for k in range(100)))
    config = SourcesConfig(allow_private=True, host_rate=0)
    lake, planned = Lake(tmp_path / "lake"), Planned.of(discover("internet", table, config))
    stage = SourcesStage(lake.uri, config)
    with prepare(lake, stage, planned, shard_size=4, limit=4) as found:
        outcome = stage.run(found.shards[0])
        outcome.times = {work.key: (0, 10**9) for work in found.shards[0]}
        stage_outcome(lake, found.shard(0), stage, outcome)
        finish(lake, found)
    expected = forecast(lake, "sources", planned)
    assert expected.left == 96
    assert expected.bytes > 96 * len(VIDEO)
    sizes = measured(lake, "sources", "").sizes
    assert set(sizes.sorts) == {"download"} and set(sizes.units) == {len(VIDEO) + DOWNLOAD_START}
