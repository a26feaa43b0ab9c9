"""A lake of made rows, as large as one likes: written straight with Arrow, the same again for the same number of clips.

A source is cut into 20 clips. One clip in 20 is too blurred to be kept; every kept clip has a pose label, latents, a
pair and (but for one in 1000, which failed for good) a caption. Rows have all columns and lie as compaction leaves
them; videos and latents are a byte each, pose arrays hold no frames.
"""

import json
from collections.abc import Callable, Iterator

import lance
import numpy as np
import pyarrow as pa

from opendimo.pipelines.captions.stage import CaptionsConfig, CaptionsStage, plan
from opendimo.pipelines.quality.policy import Policy
from opendimo.storage_schemas.ids import stable_id
from opendimo.storage_schemas.lake.compact import BLOB_ROWS
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.store import write_json
from opendimo.storage_schemas.rows import rows_to_arrow
from opendimo.storage_schemas.tables import TABLES
from tests.benchmarks import made_columns as made
from tests.benchmarks.made_columns import CLIPS_PER_SOURCE, Columns

RUN = 16_000  # rows of one run, and rows in memory at once
FAILED = 1000  # one caption in so many did
CHANGES = 1000  # of so many pairs the second set lacks 4, weighs 3 anew and has another window of 3
ROWS_PER_FILE = 1 << 20

Make = Callable[[np.ndarray], Columns]


def captions_stage(lake: Lake) -> CaptionsStage:
    """The stage whose work is planned: it measures the picture, no model."""
    return CaptionsStage(lake.uri, CaptionsConfig())


def make_lake(lake: Lake, clips: int) -> None:
    """Write a lake of so many clips: whole sources."""
    numbers = np.arange(clips)
    sources, kept = numbers[: clips // CLIPS_PER_SOURCE], numbers[made.is_kept(numbers)]
    _fill(lake, "sources", "sources", sources, made.source_columns)
    _fill(lake, "sources", "captures", sources, made.capture_columns)
    _ledger(lake, "sources", ("sources", "captures"), np.bincount(sources // RUN))
    _fill(lake, "clips", "clips", numbers, made.clip_columns)
    _fill(lake, "clips", "clip_videos", numbers, made.video_columns)
    _ledger(lake, "clips", ("clips", "clip_videos"), np.bincount(sources * CLIPS_PER_SOURCE // RUN))
    for table, columns in (("poses", made.pose_columns), ("latents", made.latent_columns)):
        _fill(lake, table, table, kept, columns)
        _ledger(lake, table, (table,), np.bincount(kept // RUN))
    _make_captions(lake)
    _fill(lake, "pairs", "pairs", kept, made.pair_columns, 2 * clips)
    _ledger(lake, "pairs", ("pairs",), np.ones(1, int))


def make_second_pairs(lake: Lake, clips: int) -> None:
    """Write another set of pairs, which differs from the first in one pair of 100."""
    kept = np.flatnonzero(made.is_kept(np.arange(clips)))
    gone, weighed, doubled = changes(len(kept))
    weighed_clips = kept[weighed]

    def columns(numbers: np.ndarray) -> Columns:
        shifted, of = np.divmod(numbers, clips)
        return made.pair_columns(of, "second", 10 * shifted, np.where(np.isin(of, weighed_clips), 0.5, 1.0))

    numbers = np.concatenate([np.delete(kept, gone), kept[doubled] + clips])
    _fill(lake, "second pairs", "pairs", numbers, columns, 2 * clips)
    _ledger(lake, "pairs", ("pairs",), np.ones(1, int), run="second pairs")


def changes(pairs: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which pairs of the first set the second lacks, weighs anew, and doubles with another window."""
    place = np.arange(pairs) % CHANGES
    return tuple(np.flatnonzero(np.isin(place, which)) for which in ((0, 1, 2, 3), (4, 5, 6), (7, 8, 9)))


def to_batch(table: str, columns: Columns, rows: int) -> pa.RecordBatch:
    """Columns in the table's schema; a blob is one byte."""
    schema = TABLES[table].schema
    return pa.RecordBatch.from_arrays([_array(field, columns, rows) for field in schema], schema=schema)


def _make_captions(lake: Lake) -> None:
    """Captions under the work keys that the stage itself plans, and the rejects of those that failed."""
    stage = captions_stage(lake)
    planned = plan(lake, stage, Policy())
    keys, items, revision = planned.keys.combine_chunks(), planned.items.combine_chunks(), planned.revision
    del planned  # it holds the columns of all clips
    numbers = np.arange(len(keys))
    failed = numbers % FAILED == FAILED - 1

    def captions(numbers: np.ndarray) -> Columns:
        return made.caption_columns(items.take(pa.array(numbers)), keys.take(pa.array(numbers)), numbers)

    def rejects(numbers: np.ndarray) -> Columns:
        names = {"stage": "captions", "error_class": "data", "message": "the video ends early", "name": "a clip"}
        done = {"item_id": items.take(pa.array(numbers)), "work_key": keys.take(pa.array(numbers))}
        return {**names, **done, "reject_id": made.ids("reject", numbers), "attempts": 1}

    _fill(lake, "captions", "captions", numbers[~failed], captions)
    _fill(lake, "captions", "rejects", numbers[failed], rejects)
    _ledger(lake, "captions", ("captions",), np.bincount(numbers // RUN), revision)


def _fill(lake: Lake, stage: str, table: str, numbers: np.ndarray, make: Make, run: int = RUN) -> None:
    """Append the rows of these numbers in one transaction; each run made `run` of them."""
    spec = TABLES[table]

    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, len(numbers), RUN):
            chunk = numbers[start : start + RUN]
            numbered, place = np.unique(chunk // run, return_inverse=True)
            run_ids = pa.array([_run_id(stage, k) for k in numbered.tolist()]).take(pa.array(place))
            yield to_batch(table, make(chunk) | {"run_id": run_ids}, len(chunk))

    reader = pa.RecordBatchReader.from_batches(spec.schema, batches())
    rows = BLOB_ROWS if spec.blobs else ROWS_PER_FILE
    lance.write_dataset(reader, lake.table_uri(table), mode="append", max_rows_per_file=rows)


def _ledger(
    lake: Lake, stage: str, tables: tuple[str, ...], inputs: np.ndarray, revision: str = "", run: str | None = None
) -> None:
    """An entry per run and table, and the file that says that the run ended; run k took in `inputs[k]`."""
    rows = [
        {
            "entry_id": stable_id("ledger", run or stage, k, table),
            "run_id": _run_id(run or stage, k),
            "stage": stage,
            "table_name": table,
            "rows": count,
            "replaced": 0,
            "version": lake.dataset(table).version,
            "config": json.dumps({"version": "1", "config": {}, "revision": revision}),
            "counts": json.dumps({"in": count, "done": count, "rejected": {}}),
            "code_version": "1",
            "committed_at": k,
            "seconds": 60.0,
        }
        for k, count in enumerate(inputs.tolist())
        for table in tables
    ]
    lance.write_dataset(rows_to_arrow(TABLES["ledger"], rows), lake.table_uri("ledger"), mode="append")
    for run_id in {row["run_id"] for row in rows}:
        write_json(lake.store, f"runs/{run_id}/committed.json", {})


def _array(field: pa.Field, columns: Columns, rows: int) -> pa.Array:
    if isinstance(field.type, pa.ExtensionType):  # a blob
        return lance.blob_array([b"."] * rows)
    value = columns.get(field.name)
    if value is None:
        return pa.nulls(rows, field.type)
    if isinstance(value, (pa.Array, np.ndarray)):
        return pa.array(value).cast(field.type)
    return pa.repeat(pa.scalar(value, field.type), rows)


def _run_id(stage: str, number: int) -> str:
    return stable_id("run", stage, number)
