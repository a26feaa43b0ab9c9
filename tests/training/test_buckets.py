"""Training on targets of several shapes: every batch is of one bucket, and shares and resumes stay exact."""

import json
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from opendimo.model.config import DiMoConfig
from opendimo.pipelines.latents.windows import Window
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.media.video import encode, probe
from opendimo.storage_schemas.releases.release import Release, create_release, open_release
from opendimo.training.config import SamplePolicy, TrainConfig
from opendimo.training.data import TrainingData
from opendimo.training.evaluation.cases import choose_cases
from opendimo.training.evaluation.clips import write_inputs
from opendimo.training.evaluation.config import BASELINE, EvaluationConfig, Weights
from opendimo.training.evaluation.evaluate import evaluate
from opendimo.training.evaluation.known import Known
from opendimo.training.evaluation.measure import Measures
from opendimo.training.parallel import World
from opendimo.training.pool import Pool
from opendimo.training.release import Pair, Pairs, chunks
from opendimo.training.result import TrainingStopped
from opendimo.training.schedule import Schedule, StageConfig
from opendimo.training.trainer import train
from tests.training.conftest import fill
from tests.training.made_pairs import rig

PORTRAIT = ("park", "rig two", "stage one")
SQUARE, TALL = "64x64x9", "64x96x9"


@pytest.fixture(scope="module")
def release(base: Path, tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Release:
    """A release of square and of portrait clips, each encoded in its own shape."""
    lake = Lake(tmp_path_factory.mktemp("lake"))
    fill(lake, base, portrait=PORTRAIT, buckets=(Window(9, 2, 64, 96),))
    return open_release(lake.uri, create_release(lake, "shapes")["release_id"])


@pytest.fixture(scope="module")
def data(release: Release) -> TrainingData:
    return TrainingData(release, "train", DiMoConfig.tiny())


def test_clips_are_in_the_bucket_of_their_shape(release: Release, data: TrainingData) -> None:
    assert set(data.latents) == {SQUARE, TALL}
    assert data.latents[TALL].shape == (8, 3, 24, 16)
    for pair in [*data.pairs, *TrainingData(release, "test", DiMoConfig.tiny()).pairs]:
        assert pair.bucket == (TALL if pair.capture_id in PORTRAIT else SQUARE)


def test_every_batch_is_of_one_bucket_and_both_occur(data: TrainingData, config: TrainConfig) -> None:
    shapes = Counter(tuple(batch.target.shape) for batch in data.batches(0, 12, config.schedule, 2, 0))
    assert set(shapes) == {(2, 8, 3, 16, 16), (2, 8, 3, 24, 16)}


def test_pairs_of_two_buckets_are_no_batch(data: TrainingData) -> None:
    by_bucket = {pair.bucket: pair for pair in data.pairs}
    with pytest.raises(ValueError, match="a batch is of one bucket, not of 64x64x9, 64x96x9"):
        data.batch(list(by_bucket.values()))
    mixed = [by_bucket[name] for name in (SQUARE, TALL, SQUARE, SQUARE)]
    assert list(chunks(mixed, 2)) == [[0, 2], [3], [1]]


def test_two_stops_and_resumes_change_nothing(release: Release, config: TrainConfig, tmp_path: Path) -> None:
    config = replace(config, samples=SamplePolicy(every=6, clips=2, steps=2))
    straight = train(release, config, tmp_path / "straight")
    stops, done = [4, 9], 0

    def count(step: int, _total: int, _record: object) -> None:
        nonlocal done
        done = step

    for at in stops:
        with pytest.raises(TrainingStopped):
            train(release, config, tmp_path / "stopped", on_progress=count, should_stop=lambda at=at: done >= at)
    resumed = train(release, config, tmp_path / "stopped")
    records = [[json.loads(line) for line in result.metrics.read_text().splitlines()] for result in (straight, resumed)]
    timed = ("seconds", "data_seconds", "samples_per_second")
    kept = [[{k: v for k, v in record.items() if k not in timed} for record in run] for run in records]
    assert kept[0] == kept[1]
    assert {record["bucket"] for record in kept[0] if "event" not in record} == {SQUARE, TALL}
    for record in kept[0]:
        if record.get("event") == "driver_check":
            assert record["loss"]["true"] is not None
    weights = [load_file(next((result.checkpoint / "model").rglob("*.safetensors"))) for result in (straight, resumed)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    video = probe(tmp_path / "straight" / "samples" / "step-000012.mp4")
    assert video.width == 3 * 64 and video.height in (2 * 64, 2 * 96)


def test_an_evaluation_compares_each_clip_in_its_own_shape(release: Release, tmp_path: Path) -> None:
    config, known = EvaluationConfig(limit=8), Known(release)
    cases = choose_cases(release, config)
    assert {case.target.size for case in cases} == {(64, 64), (64, 96)}
    write_inputs(release, cases, tmp_path)
    (tmp_path / "again").mkdir()
    for case in cases:
        (tmp_path / "again" / f"{case.case_id}.mp4").write_bytes(encode(known.frames(case.target), case.fps))
    measures = Measures.of(Weights(), lambda frames, *_: np.zeros((len(frames), 52, 3), np.float32), lambda *_: set())
    result = evaluate(release, cases, {"again": tmp_path / "again"}, tmp_path, config, measures)
    again, copied = (next(s for s in result["systems"] if s["name"] == name) for name in ("again", BASELINE))
    for system in (again, copied):
        assert {clip["case"] for clip in system["clips"]} == {case.case_id for case in cases}
        assert not system["missing"] and not system["notes"]
    assert all(clip["ssim"] > 0.95 for clip in again["clips"])


def made(sizes: dict[tuple[str, str, str], int]) -> list[Pair]:
    """Return pairs of one target window each, as many as stated by kind, source and bucket."""
    [like] = rig("any", 1, 1)
    names = [(cell, k) for cell, size in sizes.items() for k in range(size)]
    return [
        replace(like, pair_id=f"{cell}{k}", latent_id=f"{cell}{k}", kind=cell[0], source_kind=cell[1], bucket=cell[2])
        for cell, k in names
    ]


CELLS = [(kind, source, bucket) for kind in ("same_view", "cross_view") for source in "ui" for bucket in "pq"]


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.integers(0, 12), min_size=8, max_size=8).filter(lambda sizes: sum(sizes[:4]) and sum(sizes[4:])),
    st.floats(0.1, 0.9),
    st.integers(1, 4),
)
def test_windows_are_drawn_equally_often_whatever_their_bucket(sizes: list[int], share: float, batch: int) -> None:
    by_cell = dict(zip(CELLS, sizes, strict=True))
    pool = Pool(Pairs.of(made(by_cell)))
    mix = {"same_view": share, "cross_view": 1 - share}
    steps = 60
    schedule = Schedule((StageConfig("only", steps, tuple(mix.items()), 1e-3, ("u", "i")),))
    walk = [pool.pairs.take(pool.choose(step, schedule, batch, 0)) for step in range(steps)]
    assert all(len({pair.bucket for pair in drawn}) == 1 for drawn in walk)
    flat = [pair for drawn in walk for pair in drawn]
    found = Counter((pair.kind, pair.source_kind, pair.bucket) for pair in flat)
    for cell, size in by_cell.items():
        of_kind = sum(n for (kind, _, _), n in by_cell.items() if kind == cell[0])
        expected = Fraction(size, of_kind) * Fraction(mix[cell[0]]) * steps * batch
        assert abs(found[cell] - expected) <= 2 * batch + 2, (cell, found, expected)
        times = Counter(pair.pair_id for pair in flat if (pair.kind, pair.source_kind, pair.bucket) == cell)
        if times:
            assert max(times.values()) - (min(times.values()) if len(times) == size else 0) <= 1


def test_the_order_within_one_bucket_does_not_depend_on_its_name() -> None:
    schedule = Schedule((StageConfig("only", 20, (("same_view", 1.0),), 1e-3, ("u",)),))
    orders = []
    for bucket in ("", "832x480x121"):
        pool = Pool(Pairs.of(made({("same_view", "u", bucket): 7})))
        orders.append([pool.choose(step, schedule, 3, 5).tolist() for step in range(20)])
    assert orders[0] == orders[1]


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.integers(0, 6), min_size=8, max_size=8).filter(lambda sizes: sum(sizes[:4]) and sum(sizes[4:])),
    st.sampled_from([1, 2, 3, 4]),
    st.lists(st.integers(1, 29), max_size=3),
)
def test_ranks_share_an_epoch_without_overlap_after_any_number_of_resumes(
    sizes: list[int], processes: int, resumes: list[int]
) -> None:
    pool = Pool(Pairs.of(made(dict(zip(CELLS, sizes, strict=True)))))
    schedule = Schedule((StageConfig("only", 30, (("same_view", 0.5), ("cross_view", 0.5)), 1e-3, ("u", "i")),))
    batch = 2 * processes
    worlds = [World(rank, processes, torch.device("cpu")) for rank in range(processes)]
    walks: list[list[int]] = [[] for _ in worlds]
    borders = sorted({0, *resumes, 30})
    for start, stop in pairwise(borders):  # each part of the run has a pool of its own
        part = Pool(pool.pairs)
        for step in range(start, stop):
            rows = part.choose(step, schedule, batch, 3)
            for walk, world in zip(walks, worlds, strict=True):
                walk.extend(rows[world.samples(batch)].tolist())
    straight = [row for step in range(30) for row in pool.choose(step, schedule, batch, 3).tolist()]
    assert Counter(row for walk in walks for row in walk) == Counter(straight)
    assert {len(walk) for walk in walks} == {2 * 30}
    cells = [(pair.kind, pair.source_kind, pair.bucket) for pair in pool.pairs[:]]
    for cell, size in Counter(cells).items():
        rows = [row for row in straight if cells[row] == cell]
        for first in range(0, len(rows) - size + 1, size):  # one epoch
            assert len(set(rows[first : first + size])) == size
