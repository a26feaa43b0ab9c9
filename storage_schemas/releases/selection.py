"""Select the pairs of a release: the newest set without pairs that were taken down or that the policy filters.

Selection works on columns, not rows: ten million pairs are a few integer arrays.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.ledger import ranks
from opendimo.storage_schemas.lake.takedown import taken_down
from opendimo.storage_schemas.releases.pins import Pinned
from opendimo.storage_schemas.releases.policy import ReleasePolicy

Codes = NDArray[np.int32]  # row numbers of another table; -1: none
Flags = NDArray[np.bool_]
Counts = dict[str, int]


@dataclass(frozen=True)
class Selection:
    """The candidates [N] in storage order: the rows they refer to, and why each is left out (`reason`; 0: kept)."""

    where: str  # SQL condition on the pinned pairs that gives the candidates
    driving: Codes  # [N] row in `clips`
    target: Codes  # [N] row in `clips`
    pose: Codes  # [N] row in `poses`
    kind: pa.DictionaryArray
    split: pa.DictionaryArray
    source_kind: pa.DictionaryArray
    capture: pa.DictionaryArray
    subject: pa.DictionaryArray
    group: pa.DictionaryArray  # null in pairs of schema 3
    reason: NDArray[np.int8]  # [N] 1 + index in `reasons`
    reasons: tuple[str, ...]
    clips: pa.Table
    clip_source: Codes  # [clips] row in `sources`
    sources: pa.Table
    pose_ids: pa.Array

    @property
    def kept(self) -> Flags:
        """[N] whether a candidate is included in the release."""
        return self.reason == 0

    @property
    def dropped(self) -> Counts:
        """Number of candidates that are left out, by reason."""
        return self.dropped_among(np.ones(len(self.reason), bool))

    def dropped_among(self, mask: Flags) -> Counts:
        """Return the number of candidates that are left out, by reason, among those of `mask` [N]."""
        counts = np.bincount(self.reason[mask], minlength=len(self.reasons) + 1)[1:]
        return {name: int(count) for name, count in zip(self.reasons, counts, strict=True) if count}


def column(dataset: lance.LanceDataset, name: str, where: str | None = None) -> pa.Array:
    """Return one column in storage order."""
    return dataset.to_table(columns=[name], filter=where)[name].combine_chunks()


def lookup(values: pa.Array, keys: pa.Array) -> Codes:
    """Return the position of each value in `keys`, -1 if it is missing or null."""
    positions: Codes = pc.index_in(values, value_set=keys, skip_nulls=True).fill_null(-1).to_numpy(zero_copy_only=False)
    return positions.astype(np.int32, copy=False)


def codes(values: pa.DictionaryArray) -> Codes:
    """Return the codes of a dictionary-encoded column, -1 for null."""
    indices: Codes = values.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return indices.astype(np.int32, copy=False)


def count(values: pa.DictionaryArray, mask: Flags) -> Counts:
    """Count how often each value occurs among the candidates of `mask` [N]."""
    counts = np.bincount(codes(values)[mask], minlength=len(values.dictionary))
    return {name: int(n) for name, n in zip(values.dictionary.to_pylist(), counts, strict=True) if n}


def select(lake: Lake, tables: Pinned, where: str, policy: ReleasePolicy) -> Selection:
    """Apply takedowns and a policy to the pinned pairs that match `where`. Raises `ValueError` if a clip is missing."""
    pairs = tables["pairs"]
    clip_columns = ["clip_id", "source_id", "frames", "fps_num", "fps_den", "run_id"]
    clips = tables["clips"].to_table(columns=clip_columns).combine_chunks()
    sources = tables["sources"].to_table(columns=["source_id", "content_sha256", "licence"]).combine_chunks()
    pose_ids = column(tables["poses"], "pose_id")
    clip_ids = _array(clips["clip_id"])
    driving = lookup(column(pairs, "driving_clip_id", where), clip_ids)
    target = lookup(column(pairs, "target_clip_id", where), clip_ids)
    if (driving < 0).any() or (target < 0).any():
        raise ValueError(f"{lake.uri}: the newest pairs refer to clips that do not exist; make the pairs again")
    pose = lookup(column(pairs, "pose_id", where), pose_ids)
    clip_source = lookup(_array(clips["source_id"]), _array(sources["source_id"]))
    reason, names = np.zeros(len(pose), np.int8), []
    for name, left_out in _filters(lake, tables, policy, clips, sources, clip_source, (driving, target, pose)):
        names.append(name)
        reason[(reason == 0) & left_out] = len(names)

    def encoded(name: str) -> pa.DictionaryArray:
        if name not in pairs.schema.names:  # pinned before the column was added
            return pa.nulls(len(driving), pa.string()).dictionary_encode()
        return pc.dictionary_encode(column(pairs, name, where))

    return Selection(
        where, driving, target, pose,
        encoded("kind"), encoded("split"), encoded("source_kind"), encoded("capture_id"), encoded("subject"),
        encoded("split_group"),
        reason, tuple(names), clips, clip_source, sources, pose_ids,
    )  # fmt: skip


def newest_set(lake: Lake, pairs: lance.LanceDataset) -> str:
    """Return the SQL condition that selects the current set of pairs: the last committed run of the most recently
    requested revision. Raises `ValueError` if there are no pairs."""
    for run_id in (
        ranks(lake, "pairs").sort_by([("rank", "descending"), ("version", "descending")])["run_id"].to_pylist()
    ):
        if pairs.count_rows(filter=(where := set_of(run_id))):
            return where
    raise ValueError(f"{lake.uri} has no pairs to release: ingest, label and encode clips first")


def set_of(run_id: str) -> str:
    """Return the SQL condition that selects the pairs of a run."""
    return "run_id = '" + run_id.replace("'", "''") + "'"


def _filters(
    lake: Lake,
    tables: Pinned,
    policy: ReleasePolicy,
    clips: pa.Table,
    sources: pa.Table,
    clip_source: Codes,
    rows: tuple[Codes, Codes, Codes],
) -> Iterator[tuple[str, Flags]]:
    """Yield (reason, [N] whether it excludes the candidate); if several apply, the first one counts."""
    driving, target, pose = rows

    def of_clips(flags: Flags) -> Flags:
        both: Flags = flags[driving] | flags[target]
        return both

    def of_sources(flags: Flags, missing: bool) -> Flags:
        return of_clips(np.append(flags, missing)[clip_source])

    down = _flags(pc.is_in(sources["source_id"], value_set=taken_down(lake)))
    yield "taken_down", of_sources(down, False)
    licence = pc.fill_null(sources["licence"], "")
    if policy.licences:
        allowed = _flags(pc.is_in(licence, value_set=pa.array(["", *policy.licences])))
        yield "licence", of_sources(~allowed, False)
    if not policy.unknown_licence:
        yield "unknown_licence", of_sources(_flags(pc.equal(licence, "")), True)
    limits = [(n, v, pc.less, "below") for n, v in sorted(policy.floors.items())]
    limits += [(n, v, pc.greater, "above") for n, v in sorted(policy.ceilings.items())]
    for name, value, fails, word in limits:
        table, measure = name.split(".")
        failed = _flags(pc.fill_null(fails(column(tables[table], measure), value), False))
        if table == "hands":  # a clip whose hands were not measured passes
            failed = np.append(failed, False)[lookup(_array(clips["clip_id"]), column(tables[table], "clip_id"))]
        yield f"{word} {name}", np.append(failed, True)[pose] if table == "poses" else of_clips(failed)


def _flags(values: pa.Array | pa.ChunkedArray) -> Flags:
    return np.asarray(values, dtype=bool)


def _array(values: pa.ChunkedArray) -> pa.Array:
    return values.combine_chunks()
