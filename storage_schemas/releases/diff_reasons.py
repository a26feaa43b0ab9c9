"""Derive from the stored tables why a pair is in only one of two releases, or has different labels."""

import json
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.releases.diff_sides import Rows, Side, match, windows_of
from opendimo.storage_schemas.releases.pins import Pinned
from opendimo.storage_schemas.releases.selection import Flags, column, lookup, select, set_of

GONE = (
    "source no longer there", "clip no longer there", "clip no longer kept", "latents no longer there",
    "window no longer made",
)  # fmt: skip
CAME = ("new source", "new clip", "clip newly kept", "new latents", "window newly made")
NAMED = 3  # maximum number of changed settings named in one reason


def why_missing(lake: Lake, has: Side, rows: Rows, lacks: Side, clip_ids: pa.Array, words: tuple[str, ...]) -> pa.Array:
    """Return for each of `rows`, pairs of the release `has`, why it is not in the release `lacks`.

    The reasons come from the tables, the candidates and the policy of `lacks`. `words` are the texts for: no source, no
    clip, no pair of this clip, no such latents, none of these.
    """
    if not len(rows):
        return pa.array([], pa.string())
    candidates, reasons, paired = _candidates(lake, lacks, clip_ids)
    present = (
        _known_sources(has, lacks, clip_ids),
        lookup(clip_ids, column(lacks.release.dataset("clips"), "clip_id")) >= 0,
        paired,
    )
    why = np.full(len(rows), len(words) - 1)
    latents = column(lacks.release.dataset("latents"), "latent_id")
    why[lookup(has.text("latent_id").take(pa.array(rows)), latents) < 0] = 3
    driving, target = has.driving[rows], has.target[rows]
    for code in (2, 1, 0):
        why[~(present[code][driving] & present[code][target])] = code
    _, _, in_rows, in_candidates = match(has.windows.take(pa.array(rows)), candidates)
    candidate = np.full(len(rows), -1)
    candidate[in_rows] = in_candidates
    filtered = reasons.take(pa.array(candidate, mask=candidate < 0))
    return pc.coalesce(filtered, pa.array(words).take(pa.array(why)))


def _known_sources(has: Side, lacks: Side, clip_ids: pa.Array) -> Flags:
    """Return [clips] whether the source of each clip of `has` is also in `lacks`."""
    clips = has.release.dataset("clips").to_table(columns=["clip_id", "source_id"]).combine_chunks()
    clip_row = lookup(clip_ids, clips["clip_id"].combine_chunks())
    source = clips["source_id"].combine_chunks().take(pa.array(clip_row, mask=clip_row < 0))
    ours, theirs = (lookup(source, column(side.release.dataset("sources"), "source_id")) for side in (has, lacks))
    return np.asarray((theirs >= 0) | (ours < 0))


def _candidates(lake: Lake, side: Side, clip_ids: pa.Array) -> tuple[pa.Table, pa.Array, Flags]:
    """Return the candidates that a release was selected from: their windows, why each was left out, and [clips] whether
    a clip has any candidate."""
    release = side.release
    tables: Pinned = {name: lake.dataset(name, version) for name, version in release.versions.items()}
    [run_id] = release.dataset("pairs").to_table(columns=["run_id"], limit=1)["run_id"].to_pylist()
    chosen = select(lake, tables, where := set_of(run_id), side.policy)
    clip_row = lookup(chosen.clips["clip_id"].combine_chunks(), clip_ids)
    windows = windows_of(tables["pairs"], clip_row[chosen.driving], clip_row[chosen.target], where)
    paired = np.zeros(len(clip_ids), bool)
    paired[clip_row[chosen.driving]] = paired[clip_row[chosen.target]] = True
    texts = ["left out for a reason that no longer holds"]
    texts += ["taken down" if reason == "taken_down" else f"filtered: {reason}" for reason in chosen.reasons]
    return windows, pa.array(texts).take(pa.array(chosen.reason)), paired


def why_relabelled(
    lake: Lake, a: Side, b: Side, both_a: Rows, both_b: Rows, changed: dict[str, Flags]
) -> dict[str, int]:
    """Count relabelled pairs by the settings that differ between the runs that produced the two labels."""
    counts: Counter[str] = Counter()
    for name, table in (("pose", "poses"), ("latents", "latents")):
        rows = np.flatnonzero(changed[name])
        runs = pa.table(
            [side.of_label(table, "run_id", both[rows]) for side, both in ((a, both_a), (b, both_b))], ["old", "new"]
        )
        for group in runs.group_by(["old", "new"]).aggregate([([], "count_all")]).to_pylist():
            counts[f"{name}: {_difference(lake, group['old'], group['new'])}"] += group["count_all"]
    return dict(counts.most_common())


def _difference(lake: Lake, old: str | None, new: str | None) -> str:
    if old is None or new is None:
        return "a label where there was none" if old is None else "no label any more"
    before, after = (_settings(lake, run_id) for run_id in (old, new))
    names = [name for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
    if not names:
        return "made again with the same settings"
    changes = [f"{name} {before.get(name)} -> {after.get(name)}" for name in names[:NAMED]]
    return ", ".join(changes) + (f", and {len(names) - NAMED} more" if names[NAMED:] else "")


def _settings(lake: Lake, run_id: str) -> dict[str, str]:
    """Return the stage version and config of a run as a flat dict with one entry per setting."""
    rows = lake.read("ledger", ["config"], set_of(run_id))
    return _flat(json.loads(rows[0]["config"]), "") if rows else {}


def _flat(value: Any, name: str) -> dict[str, str]:
    if isinstance(value, dict):
        parts = (_flat(part, f"{name}.{key}" if name else key) for key, part in value.items() if key != "revision")
        return {key: text for part in parts for key, text in part.items()}
    return {name: json.dumps(value)}
