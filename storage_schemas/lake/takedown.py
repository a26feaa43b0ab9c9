"""Take down sources, so that future releases exclude them: by source, content, licence or subject.

A tombstone stores a value of a column, not rows, so it also takes down sources with the same content, licence or
subject that are added later. Synthetic re-renderings of a source go with it. Rows are not deleted. The next release
excludes the pairs of sources that are taken down, and `verify` of an older release reports them.
"""

import functools
import time
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from opendimo.storage_schemas.ids import stable_id
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.runs import next_run
from opendimo.storage_schemas.rows import Row

QUOTE = "'"
KINDS = ("source_id", "content_sha256", "licence", "subject")
"""The columns of `sources` by whose value sources can be taken down."""


@dataclass(frozen=True)
class Concerned:
    """The ids of the stored sources that a tombstone applies to, and of the clips cut from them."""

    sources: pa.Array
    clips: pa.Array


def taken_down(lake: Lake) -> pa.Array:
    """Return the `source_id` (string) of every source that is taken down."""
    tombstones = lake.scan("tombstones", ["what", "value"], "in_force")
    values = {what: tombstones.filter(pc.equal(tombstones["what"], what))["value"].combine_chunks() for what in KINDS}
    return _sources(lake, {what: listed for what, listed in values.items() if len(listed)})


def list_sources(lake: Lake, name: str | None, licence: str | None, subject: str | None) -> list[Row]:
    """Return sources whose name or uri contains `name` and that have this licence and subject; None matches all.

    `down` is the reason of the takedown of a source, or None.
    """
    filters = {"licence": licence, "subject": subject}
    given = {column: value for column, value in filters.items() if value is not None}
    where = [f"{column} = '{value.replace(QUOTE, QUOTE * 2)}'" for column, value in given.items()]
    rows = lake.read("sources", ["kind", "name", "uri", "fetched_at", *KINDS], " AND ".join(where) or None)
    tombstones = {(s["what"], s["value"]): s["reason"] for s in lake.read("tombstones", where="in_force")}
    return [
        row | {"down": next((tombstones[kind, row[kind]] for kind in KINDS if (kind, row[kind]) in tombstones), None)}
        for row in rows
        if name is None or name in row["name"] or name in row["uri"]
    ]


def concerned(lake: Lake, what: str, value: str) -> Concerned:
    """Return the sources with `value` in the column `what`, and their clips.

    Raises `ValueError` if `what` is not one of `KINDS` or `value` is empty.
    """
    _check(what, value)
    sources = _sources(lake, {what: pa.array([value], pa.string())})
    return Concerned(sources, _matching(lake, "clips", "clip_id", {"source_id": sources}))


def take_down(lake: Lake, what: str, value: str, reason: str, by: str, ahead: bool = False) -> int:
    """Put a tombstone in force; return the number of stored sources that it applies to.

    Raises `ValueError` if no reason or name is given, or if no source in the lake has this value. With `ahead` the
    latter is allowed: sources with this value that are added later are then taken down from the start.
    """
    count = len(concerned(lake, what, value).sources)
    if not count and not ahead:
        raise ValueError(
            f"no source has {what} {value!r}: see `dimo sources`, or use --ahead for sources that will be added later"
        )
    _decide(lake, what, value, reason, by, in_force=True)
    return count


def lift(lake: Lake, what: str, value: str, reason: str, by: str) -> int:
    """Lift a tombstone; return the number of stored sources it applied to. Raises `ValueError` if none is in force."""
    count = len(concerned(lake, what, value).sources)
    tombstone = _tombstone(lake, what, value)
    if tombstone is None or not tombstone["in_force"]:
        raise ValueError(f"{what} {value!r} is not taken down in {lake.uri}: there is nothing to lift")
    _decide(lake, what, value, reason, by, in_force=False)
    return count


def reasons(lake: Lake) -> list[Row]:
    """Return every tombstone in force: what, value, reason, by, decided_at."""
    return lake.read("tombstones", ["what", "value", "reason", "by", "decided_at"], "in_force")


def tombstone_id(what: str, value: str) -> str:
    """Return the key of a tombstone."""
    return stable_id("tombstone", what, value)


def _decide(lake: Lake, what: str, value: str, reason: str, by: str, in_force: bool) -> None:
    if not reason.strip() or not by.strip():
        raise ValueError("a takedown needs a reason and the name of the person who decided it")
    row = {"what": what, "value": value, "reason": reason, "by": by, "in_force": in_force}
    while (tombstone := _tombstone(lake, what, value)) is None or row.items() - tombstone.items():
        # the run id depends on the state that the run changes: if the run is killed and repeated, it is the same run,
        # so a decision that was never committed cannot take effect after a later one
        before = tombstone["decided_at"] if tombstone else 0
        key = tombstone_id(what, value)
        new_row = row | {"tombstone_id": key, "decided_at": max(time.time_ns(), before + 1)}
        lake.append(next_run(lake, "tombstone", key, before), {"tombstones": [new_row]})


def _tombstone(lake: Lake, what: str, value: str) -> Row | None:
    return next(iter(lake.read("tombstones", where=f"tombstone_id = '{tombstone_id(what, value)}'")), None)


def _sources(lake: Lake, values: dict[str, pa.Array]) -> pa.Array:
    """Return the `source_id` of the sources with one of the listed values, and of re-renderings of these."""
    ids = _matching(lake, "sources", "source_id", values)
    if not len(ids):
        return ids
    rerendered = lake.scan("sources", ["source_id", "capture_id"], "resynthesis_of IS NOT NULL")
    if not rerendered.num_rows:
        return ids
    originals = lake.scan("sources", ["source_id", "capture_id"], "resynthesis_of IS NULL")
    captures = originals["capture_id"].filter(pc.is_in(originals["source_id"], value_set=ids)).combine_chunks()
    derived = rerendered["source_id"].filter(pc.is_in(rerendered["capture_id"], value_set=captures))
    return pc.unique(pa.chunked_array([ids, *derived.chunks], pa.string()))


def _matching(lake: Lake, table: str, id_column: str, values: dict[str, pa.Array]) -> pa.Array:
    """Return `id_column` of the rows in which any column of `values` has one of its listed values.

    Reads the table in batches, because it may be large.
    """
    ids: list[pa.Array] = []
    if any(len(listed) for listed in values.values()):
        columns = list(dict.fromkeys([id_column, *values]))
        for batch in lake.dataset(table).scanner(columns=columns).to_batches():
            matches = [pc.is_in(batch[column], value_set=listed) for column, listed in values.items()]
            ids.append(batch[id_column].filter(functools.reduce(pc.or_, matches)))
    return pa.chunked_array(ids, pa.string()).combine_chunks()


def _check(what: str, value: str) -> None:
    if what not in KINDS:
        raise ValueError(f"cannot take down by {what!r}: use one of {', '.join(KINDS)}")
    if not value:
        raise ValueError(f"cannot take down by an empty {what}")
