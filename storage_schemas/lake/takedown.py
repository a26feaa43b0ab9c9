"""Takedown: what must not be used any more, by source, by content, by licence or by person.

A tombstone names a value, not rows: a source that comes later with the same content, licence or subject is down as
well. Rows stay where they are; the next release leaves the pairs of what is down out, and `verify` of an older
release names them.
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
"""The columns of `sources` by whose value something can be taken down."""


@dataclass(frozen=True)
class Concerned:
    """What a tombstone concerns now: the ids of sources, and of the clips that were cut from them."""

    sources: pa.Array
    clips: pa.Array


def taken_down(lake: Lake) -> pa.Array:
    """`source_id` (string) of every source that is down now."""
    stones = lake.scan("tombstones", ["what", "value"], "in_force")
    values = {what: stones.filter(pc.equal(stones["what"], what))["value"].combine_chunks() for what in KINDS}
    return _matching(lake, "sources", "source_id", {what: named for what, named in values.items() if len(named)})


def list_sources(lake: Lake, name: str | None, licence: str | None, subject: str | None) -> list[Row]:
    """Sources of which name or uri has `name` in it, and licence and subject are those given; `down` says why not."""
    wanted = {"licence": licence, "subject": subject}
    where = [f"{column} = '{value.replace(QUOTE, QUOTE * 2)}'" for column, value in wanted.items() if value is not None]
    rows = lake.read("sources", ["kind", "name", "uri", "fetched_at", *KINDS], " AND ".join(where) or None)
    stones = {(s["what"], s["value"]): s["reason"] for s in lake.read("tombstones", where="in_force")}
    return [
        row | {"down": next((stones[kind, row[kind]] for kind in KINDS if (kind, row[kind]) in stones), None)}
        for row in rows
        if name is None or name in row["name"] or name in row["uri"]
    ]


def concerned(lake: Lake, what: str, value: str) -> Concerned:
    """The sources with `value` in the column `what`, and their clips. Raises `ValueError` for an unknown `what`."""
    _check(what, value)
    sources = _matching(lake, "sources", "source_id", {what: pa.array([value], pa.string())})
    return Concerned(sources, _matching(lake, "clips", "clip_id", {"source_id": sources}))


def take_down(lake: Lake, what: str, value: str, reason: str, by: str, ahead: bool = False) -> int:
    """Put a tombstone in force; return how many sources it concerns now.

    Raises `ValueError` where no reason or name is given, or nothing in the lake has this value, unless `ahead`: then
    whatever comes later with it is down from the start.
    """
    found = len(concerned(lake, what, value).sources)
    if not found and not ahead:
        raise ValueError(f"no source has {what} {value!r}: see `dimo sources`, or use --ahead for what comes later")
    _decide(lake, what, value, reason, by, in_force=True)
    return found


def lift(lake: Lake, what: str, value: str, reason: str, by: str) -> int:
    """Lift a tombstone; return how many sources it concerned. Raises `ValueError` where there is none in force."""
    found = len(concerned(lake, what, value).sources)
    stone = _stone(lake, what, value)
    if stone is None or not stone["in_force"]:
        raise ValueError(f"{what} {value!r} is not taken down in {lake.uri}: there is nothing to lift")
    _decide(lake, what, value, reason, by, in_force=False)
    return found


def reasons(lake: Lake) -> list[Row]:
    """Every tombstone in force: what, value, reason, by, decided_at."""
    return lake.read("tombstones", ["what", "value", "reason", "by", "decided_at"], "in_force")


def tombstone_id(what: str, value: str) -> str:
    """The key of a tombstone."""
    return stable_id("tombstone", what, value)


def _decide(lake: Lake, what: str, value: str, reason: str, by: str, in_force: bool) -> None:
    if not reason.strip() or not by.strip():
        raise ValueError("a takedown needs a reason and the name of who decided it")
    row = {"what": what, "value": value, "reason": reason, "by": by, "in_force": in_force}
    while (stone := _stone(lake, what, value)) is None or row.items() - stone.items():
        # the run is named after the state that it changes: killed and repeated it is the same run, so a decision
        # that was never committed cannot come back after a later one
        before = stone["decided_at"] if stone else 0
        key = tombstone_id(what, value)
        fresh = row | {"tombstone_id": key, "decided_at": max(time.time_ns(), before + 1)}
        lake.append(next_run(lake, "tombstone", key, before), {"tombstones": [fresh]})


def _stone(lake: Lake, what: str, value: str) -> Row | None:
    return next(iter(lake.read("tombstones", where=f"tombstone_id = '{tombstone_id(what, value)}'")), None)


def _matching(lake: Lake, table: str, wanted: str, values: dict[str, pa.Array]) -> pa.Array:
    """`wanted` of the rows that have one of the values of a column in it; batch by batch, so the table may be large."""
    found: list[pa.Array] = []
    if any(len(named) for named in values.values()):
        columns = list(dict.fromkeys([wanted, *values]))
        for batch in lake.dataset(table).scanner(columns=columns).to_batches():
            hits = [pc.is_in(batch[column], value_set=named) for column, named in values.items()]
            found.append(batch[wanted].filter(functools.reduce(pc.or_, hits)))
    return pa.chunked_array(found, pa.string()).combine_chunks()


def _check(what: str, value: str) -> None:
    if what not in KINDS:
        raise ValueError(f"cannot take down by {what!r}: use one of {', '.join(KINDS)}")
    if not value:
        raise ValueError(f"cannot take down by an empty {what}")
