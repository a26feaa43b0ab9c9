"""What `lake_scale` measures, each in a process of its own.

`python -m tests.benchmarks.lake_operations NAME LAKE CLIPS` prints, as JSON, the seconds of each step and the most
memory that the process had before the first (`start_mb`) and ever (`peak_mb`). Raises `AssertionError` where a count
is not exactly what it has to be.
"""

import json
import resource
import sys
import time
from typing import Any

import numpy as np
import pyarrow as pa

from opendimo.pipelines.captions.stage import plan
from opendimo.pipelines.engine.planning import finish, prepare, stage_outcome
from opendimo.pipelines.engine.stage import Outcome, Work
from opendimo.pipelines.progress.status import funnel
from opendimo.pipelines.quality.policy import Policy
from opendimo.storage_schemas.lake import commit, runs
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.releases.diff import diff
from opendimo.storage_schemas.releases.release import create_release, open_release
from opendimo.storage_schemas.rows import Row, arrow_to_rows
from opendimo.storage_schemas.tables import TABLES
from tests.benchmarks import made_columns as made
from tests.benchmarks.made_lake import FAILED, captions_stage, changes, make_lake, make_second_pairs, to_batch

NEW = 10_000  # clips of one batch
SHARD = 256  # pieces of work that a worker stages at once
VIDEO = 10_000  # bytes of a new clip


class Clock:
    """Seconds of each step: `lap` ends one."""

    def __init__(self) -> None:
        self.steps: dict[str, float] = {}
        self.start()

    def start(self) -> None:
        """Forget what was since the last step."""
        self.started = time.perf_counter()

    def lap(self, step: str) -> None:
        """End a step; the next begins."""
        self.steps[step] = time.perf_counter() - self.started
        self.start()


def make(lake: Lake, clips: int, clock: Clock) -> None:
    """The lake."""
    make_lake(lake, clips)
    clock.lap("make the lake")


def second_pairs(lake: Lake, clips: int, clock: Clock) -> None:
    """Another set of pairs."""
    make_second_pairs(lake, clips)
    clock.lap("make another set of pairs")


def no_op(lake: Lake, clips: int, clock: Clock) -> None:
    """Plan a stage of which everything is done."""
    stage = captions_stage(lake)
    planned = plan(lake, stage, Policy())
    with prepare(lake, stage, planned, SHARD) as run:
        clock.lap("plan, nothing left")
        expect("planned and left", (len(planned), run.size), (kept(clips), 0))


def release(lake: Lake, clips: int, clock: Clock) -> None:
    """The first release, or the next where there is one."""
    number = lake.dataset("releases").count_rows() + 1
    clock.start()
    row = create_release(lake, "bench")
    clock.lap(f"make release {number}")
    gone, _, doubled = changes(kept(clips))
    pairs = kept(clips) + (number - 1) * (len(doubled) - len(gone))
    expect("release and pairs", (row["release_id"], row["pairs"]), (f"bench@{number}", pairs))


def opening(lake: Lake, clips: int, clock: Clock) -> None:
    """A release, for reading."""
    opened = open_release(lake.uri, "bench@1")
    clock.lap("open a release")
    expect("pairs", opened.dataset("pairs").count_rows(), kept(clips))


def difference(lake: Lake, clips: int, clock: Clock) -> None:
    """Two releases that differ in one pair of 100."""
    found = diff(lake, "bench@1", "bench@2")
    clock.lap("diff, 1 % changed")
    gone, weighed, doubled = (len(places) for places in changes(kept(clips)))
    counts = (found.removed, found.relabelled, found.added, found.common)
    expect("changes", counts, (gone, weighed, doubled, kept(clips) - gone))


def new_clips(lake: Lake, clips: int, clock: Clock) -> None:
    """A batch of clips with their videos, of sources that came before."""
    numbers = np.arange(clips, clips + NEW)
    sources = np.unique(numbers // made.CLIPS_PER_SOURCE)
    tables = {"sources": made.source_columns(sources), "captures": made.capture_columns(sources)}
    run_id = _stage(lake, "sources", [{name: _rows(name, columns) for name, columns in tables.items()}])
    _commit(lake, run_id, "sources", len(sources))
    noise = np.random.default_rng(0)
    clip_rows = _rows("clips", made.clip_columns(numbers))
    video_rows = [row | {"video": noise.bytes(VIDEO)} for row in _rows("clip_videos", made.video_columns(numbers))]
    cuts = [slice(k, k + SHARD) for k in range(0, NEW, SHARD)]
    shards = [{"clips": clip_rows[cut], "clip_videos": video_rows[cut]} for cut in cuts]
    clock.start()
    run_id = _stage(lake, "clips", shards)
    clock.lap("10K clips with video: stage")
    rows = _commit(lake, run_id, "clips", len(sources))
    clock.lap("10K clips with video: commit")
    expect("committed", rows, {"clips": NEW, "clip_videos": NEW})
    expect("clips", [lake.dataset(name).count_rows() for name in rows], [clips + NEW] * 2)


def new_captions(lake: Lake, clips: int, clock: Clock) -> None:
    """The captions of that batch, as a driver and its workers make them."""
    stage, new = captions_stage(lake), kept(clips + NEW) - kept(clips)
    with prepare(lake, stage, plan(lake, stage, Policy()), SHARD) as run:
        clock.lap("10K captions: plan")
        expect("left", run.size, new)
        for number, works in enumerate(run.shards):
            outcome = Outcome()
            for work, row in zip(works, _captions(works, clips + number * SHARD), strict=True):
                outcome.add(work, {"captions": [row]})
            stage_outcome(lake, run.shard(number), stage, outcome)
        clock.lap("10K captions: stage")
        rows = finish(lake, run)
        clock.lap("10K captions: commit")
    expect("committed", rows, {"captions": new})


def status(lake: Lake, clips: int, clock: Clock) -> None:
    """Where everything went, after the batch."""
    accounts = {account.stage: account for account in funnel(lake, Policy())}
    clock.lap("status")
    expect("kept", accounts["verdict"].done, kept(clips + NEW))
    expect("captions", accounts["captions"].done, kept(clips + NEW) - kept(clips) // FAILED)


OPERATIONS = {
    f.__name__: f for f in (make, second_pairs, no_op, release, opening, difference, new_clips, new_captions, status)
}


def main(name: str, uri: str, clips: int) -> None:
    """Do one operation and print what it cost."""
    lake, start = Lake(uri), _peak_mb()
    clock = Clock()
    OPERATIONS[name](lake, clips, clock)
    print(json.dumps({"steps": clock.steps, "start_mb": start, "peak_mb": _peak_mb()}))


def expect(what: str, found: Any, expected: Any) -> None:
    """Raise `AssertionError` unless both are equal."""
    if found != expected:
        raise AssertionError(f"{what}: {found}, but it has to be {expected}")


def kept(clips: int) -> int:
    """How many of the first clips the policy keeps."""
    return int(made.is_kept(np.arange(clips)).sum())


def _stage(lake: Lake, stage: str, shards: list[dict[str, list[Row]]]) -> str:
    run_id = f"new {stage}"
    runs.begin(lake, run_id, {"shards": len(shards), "stage": stage})
    for number, rows in enumerate(shards):
        runs.stage_shard(lake, run_id, number, rows, {})
    return run_id


def _commit(lake: Lake, run_id: str, stage: str, inputs: int) -> dict[str, int]:
    counts = {"in": inputs, "done": inputs, "rejected": {}}
    return commit.commit(lake, run_id, lambda _: {"stage": stage, "config": {"version": "1"}, "counts": counts})


def _rows(table: str, columns: made.Columns) -> list[Row]:
    """Made columns as a stage hands them over."""
    key = columns[TABLES[table].key]
    data = pa.Table.from_batches([to_batch(table, columns | {"run_id": ""}, len(key))])
    return arrow_to_rows(data.drop_columns(["run_id", *TABLES[table].blobs]))


def _captions(works: list[Work], first: int) -> list[Row]:
    """What a model would have said, numbered from `first` on."""
    items, keys = ([getattr(work, name) for work in works] for name in ("item_id", "key"))
    numbers = np.arange(first, first + len(works))
    return _rows("captions", made.caption_columns(pa.array(items), pa.array(keys), numbers))


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # kilobytes on Linux


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
