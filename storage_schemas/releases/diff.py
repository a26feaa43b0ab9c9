"""Compare two releases: pairs added, removed, relabelled, moved between splits, and why.

A pair is identified by its windows: driving and target clip, first frames, number of frames and step. Its id cannot be
used, because it changes with every set of pairs. All operations work on whole columns: a join of integer columns, then
comparisons.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.releases.diff_reasons import CAME, GONE, why_missing, why_relabelled
from opendimo.storage_schemas.releases.diff_sides import Rows, Side, changed_fields, different, match, open_side
from opendimo.storage_schemas.releases.release import find_release, open_row
from opendimo.storage_schemas.releases.selection import column

SHOWN = ("pair_id", "kind", "split", "driving_clip_id", "driving_start", "target_clip_id", "target_start")


@dataclass
class Diff:
    """The difference of two releases, in numbers of pairs: `before` = removed + common, `after` = added + common.

    `by_field` counts the relabelled pairs by the field that differs; a pair can count for several fields. `splits`
    counts the moved pairs by old and new split. The fields `*_why` count reasons. `examples` lists rows by change.
    """

    older: str
    newer: str
    before: int
    after: int
    added: int
    removed: int
    common: int
    relabelled: int
    moved: int
    by_field: dict[str, int] = field(default_factory=dict)
    splits: dict[str, int] = field(default_factory=dict)
    added_why: dict[str, int] = field(default_factory=dict)
    removed_why: dict[str, int] = field(default_factory=dict)
    relabelled_why: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


def diff(lake: Lake, older: str, newer: str, examples: int = 0) -> Diff:
    """Compare two releases of a lake; `examples` is the maximum number of rows to list for each kind of change.

    Raises `ValueError` if one of the releases does not exist or was changed.
    """
    opened = [open_row(lake, find_release(lake, release_id)) for release_id in (older, newer)]
    ids = [column(release.dataset("clips"), "clip_id") for release in opened]
    clip_ids = pc.unique(pa.chunked_array(ids))
    a, b = (open_side(release, clip_ids) for release in opened)
    only_a, only_b, both_a, both_b = match(a.windows, b.windows)
    split_a, split_b = a.text("split").take(pa.array(both_a)), b.text("split").take(pa.array(both_b))
    moved = different(split_a, split_b)
    changed = changed_fields(a, b, both_a, both_b)
    relabelled = np.logical_or.reduce([*changed.values(), np.zeros(len(both_a), bool)])
    routes = pc.binary_join_element_wise(split_a, split_b, " to ").filter(pa.array(moved))
    removed_why = why_missing(lake, a, only_a, b, clip_ids, GONE)
    added_why = why_missing(lake, b, only_b, a, clip_ids, CAME)
    result = Diff(
        older, newer, len(a.driving), len(b.driving), len(only_b), len(only_a), len(both_a),
        int(relabelled.sum()), int(moved.sum()),
        {name: int(flags.sum()) for name, flags in changed.items() if flags.any()},
        _counts(routes), _counts(added_why), _counts(removed_why), why_relabelled(lake, a, b, both_a, both_b, changed),
    )  # fmt: skip
    if examples:
        result.examples = {
            "added": _examples(b, only_b, added_why, examples),
            "removed": _examples(a, only_a, removed_why, examples),
            "relabelled": _examples(b, both_b[relabelled], None, examples),
            "moved": _examples(b, both_b[moved], routes, examples),
        }
    return result


def _examples(side: Side, rows: Rows, why: pa.Array | None, count: int) -> list[dict[str, Any]]:
    """Return the first `count` rows of a change for display."""
    shown = side.release.dataset("pairs").take(rows[:count].tolist(), columns=list(SHOWN)).to_pylist()
    reasons = why[:count].to_pylist() if why is not None else [None] * len(shown)
    return [row | ({"why": reason} if reason else {}) for row, reason in zip(shown, reasons, strict=True)]


def _counts(reasons: pa.Array) -> dict[str, int]:
    """Count how often each reason occurs, most frequent first."""
    counts = {item["values"]: item["counts"] for item in pc.value_counts(reasons).to_pylist()}
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
