"""Create and open releases: immutable, named, versioned sets of pairs, pinned to tagged table versions, with a list of
all their files.

Training reads only a release. `open_release` rejects a release that is unpinned, not approved, withdrawn or changed.
"""

import hashlib
import json
import re
import time
from dataclasses import dataclass, field
from typing import Any

import lance
import pyarrow as pa

from opendimo.storage_schemas.lake.lake import Lake, scan
from opendimo.storage_schemas.lake.snapshot import Snapshot
from opendimo.storage_schemas.releases.decisions import (
    PENDING,
    USABLE,
    WITHDRAWN,
    last_decisions,
    next_run,
    settle,
    state,
)
from opendimo.storage_schemas.releases.files import kept_pair_ids, open_pairs, row_set_sha256, write_release_files
from opendimo.storage_schemas.releases.inventory import OnProgress, misfits, read_inventory
from opendimo.storage_schemas.releases.leakage import check_splits
from opendimo.storage_schemas.releases.manifest import make_manifest
from opendimo.storage_schemas.releases.pins import check_pins, pin_tables, pinned, unchanged, unpin_tables
from opendimo.storage_schemas.releases.policy import ReleasePolicy
from opendimo.storage_schemas.releases.selection import Selection, count, newest_set, select
from opendimo.storage_schemas.rows import Row, arrow_to_rows


@dataclass(frozen=True)
class Release:
    """An open release. `id` is NAME@VERSION; `sha256` covers the row set, the pinned versions and every file."""

    id: str
    sha256: str
    manifest: dict[str, Any]
    lake: Lake
    versions: dict[str, int]
    _open: dict[str, lance.LanceDataset] = field(default_factory=dict, repr=False, compare=False)
    _snapshots: dict[str, Snapshot] = field(default_factory=dict, repr=False, compare=False)

    def __reduce__(self) -> tuple[type["Release"], tuple[Any, ...]]:
        """Pickle without open tables."""
        return type(self), (self.id, self.sha256, self.manifest, self.lake, self.versions)

    @property
    def lake_uri(self) -> str:
        """Path or URL of the lake."""
        return self.lake.uri

    def dataset(self, table: str) -> lance.LanceDataset:
        """Return a pinned table; for `pairs`, only the pairs of the release."""
        if table not in self._open:
            if table == "pairs":
                self._open[table] = open_pairs(self.lake, self.id)
            else:
                self._open[table] = self.lake.dataset(table, self.versions[table])
        return self._open[table]

    def scan(self, table: str, columns: list[str] | None = None, where: str | None = None) -> pa.Table:
        """Return rows of a pinned table as an Arrow table in key order, without blobs. `where` is an SQL condition."""
        return scan(self.dataset(table), table, columns, where)

    def read(self, table: str, columns: list[str] | None = None, where: str | None = None) -> list[Row]:
        """Like `scan`, but return rows as dicts."""
        return arrow_to_rows(self.scan(table, columns, where))

    def blobs(self, table: str, column: str, keys: list[str]) -> list[bytes]:
        """Return the bytes of a blob column of a pinned table by primary key, in the order of `keys`."""
        return self._snapshot(table).blobs(column, keys)

    def rows(self, table: str, keys: list[str], columns: list[str]) -> list[Row]:
        """Return rows of a pinned table by primary key, in the order of `keys`; efficient for a few rows."""
        return self._snapshot(table).rows(keys, columns)

    def _snapshot(self, table: str) -> Snapshot:
        if table not in self._snapshots:
            self._snapshots[table] = Snapshot(self.dataset(table), table)
        return self._snapshots[table]


def create_release(
    lake: Lake, name: str, policy: ReleasePolicy | None = None, on_progress: OnProgress = lambda *_: None
) -> Row:
    """Create the next version of `name` from the newest set of pairs.

    If content and policy equal those of the previous version, return that version. A set is the result of one run of
    the `pairs` stage; pairs of sources that were taken down and pairs that the policy filters are excluded. Raises
    `ValueError`, and leaves nothing behind, if the name is not valid, too few pairs remain, a subject, capture or file
    is in both splits, or the same content was withdrawn. If killed at any point and run again, it results in one
    release.
    """
    check_name(name)
    policy = policy or ReleasePolicy()
    with lake.lock("release") as check:
        settle(lake)
        previous = _newest(lake, name)
        version = previous["version"] + 1 if previous else 1
        release_id = f"{name}@{version}"
        tag = f"release.{name}.{version}"
        check()
        pins = pin_tables(lake, tag)
        try:
            tables = pinned(lake, pins)
            chosen = select(lake, tables, newest_set(lake, tables["pairs"]), policy)
            _check_counts(lake, name, chosen, policy)
            check_splits(chosen)
            pair_ids = kept_pair_ids(tables["pairs"], chosen)
            row_set = row_set_sha256(pair_ids)
            if previous and _same(lake, previous, row_set, pins, policy):
                check()
                unpin_tables(lake, tag)
                return _unless_withdrawn(previous)
            manifest = make_manifest(lake, tables, chosen, policy)
        except ValueError:
            check()
            unpin_tables(lake, tag)
            raise
        check()
        row = {
            "release_id": release_id,
            "name": name,
            "version": version,
            "parent": previous["release_id"] if previous else None,
            "pins": pins,
            "pairs": len(pair_ids),
            "row_set_sha256": row_set,
            "inventory_sha256": write_release_files(lake, release_id, pair_ids, pins, on_progress, check),
            "manifest": json.dumps(manifest, sort_keys=True),
            "needs_approval": policy.approval,
            "created_at": time.time_ns(),
        }
        check()
        lake.append(next_run(lake, "release", release_id), {"releases": [row]})
        return find_release(lake, release_id)


def check_name(name: str) -> None:
    """Raise `ValueError` if `name` is not a valid name of a release."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", name):
        raise ValueError(f"release name {name!r}: use lower-case letters, digits, - and _, at most 63")


def list_releases(lake: Lake, name: str | None = None) -> list[Row]:
    """Return all releases, or those of one name, sorted by name and version.

    These are rows of `releases` with `state` (usable, pending, withdrawn) and the last `decision` about each (a row of
    `decisions`, or None).
    """
    rows, decisions = lake.read("releases"), last_decisions(lake)
    rows = [
        row | {"decision": decisions.get(row["release_id"]), "state": state(row, decisions.get(row["release_id"]))}
        for row in rows
        if name in (None, row["name"])
    ]
    return sorted(rows, key=lambda row: (row["name"], row["version"]))


def find_release(lake: Lake, release_id: str) -> Row:
    """Return one row of `list_releases`. Raises `ValueError` if it does not exist or `release_id` has no version."""
    rows = list_releases(lake)
    if matches := [row for row in rows if row["release_id"] == release_id]:
        return matches[0]
    if "@" not in release_id:
        usable = [r["release_id"] for r in rows if r["name"] == release_id and r["state"] == USABLE]
        newest = f"the newest usable one is {usable[-1]}" if usable else f"there is no usable one of {release_id!r}"
        raise ValueError(f"release {release_id!r} has no version, write NAME@VERSION: {newest}")
    known = ", ".join(row["release_id"] for row in rows) or "none"
    raise ValueError(f"no release {release_id} in {lake.uri}; there are: {known}")


def open_release(lake_uri: str, release_id: str) -> Release:
    """Open NAME@VERSION for reading.

    Raises `ValueError`, with a message of one line, if the release does not exist, waits for approval, was withdrawn or
    was changed. Checks the pinned versions, the list of files, and names and sizes of the files; `verify` also reads
    all files.
    """
    lake = Lake(lake_uri)
    row = find_release(lake, release_id)
    check_usable(row)
    return open_row(lake, row)


def open_row(lake: Lake, row: Row) -> Release:
    """Open a release in any state, for inspection and not for training. Raises `ValueError` if it was changed."""
    check_pins(lake, row["release_id"], row["pins"])
    if damaged := misfits(lake, read_inventory(lake, row["release_id"], row["inventory_sha256"])):
        more = f", and {len(damaged) - 1} more" if damaged[1:] else ""
        raise ValueError(f"release {row['release_id']} was changed: {damaged[0]}{more}; see `dimo release verify`")
    covered = [row["row_set_sha256"], row["pins"], row["inventory_sha256"]]
    sha256 = hashlib.sha256(json.dumps(covered, sort_keys=True).encode()).hexdigest()
    versions = {pin["table"]: pin["version"] for pin in row["pins"]}
    return Release(row["release_id"], sha256, json.loads(row["manifest"]), lake, versions)


def check_usable(row: Row) -> None:
    """Raise `ValueError` if a release waits for approval or was withdrawn."""
    if row["state"] == PENDING:
        raise ValueError(
            f"release {row['release_id']} waits for approval: `dimo release approve {row['release_id']} --by NAME`"
        )
    if row["state"] == WITHDRAWN:
        by, reason = row["decision"]["by"], row["decision"]["note"] or "no reason given"
        raise ValueError(f"release {row['release_id']} was withdrawn by {by}: {reason}")


def _newest(lake: Lake, name: str) -> Row | None:
    return next(iter(reversed(list_releases(lake, name))), None)


def _same(lake: Lake, previous: Row, row_set: str, pins: list[dict[str, Any]], policy: ReleasePolicy) -> bool:
    before = json.loads(previous["manifest"]).get("policy", ReleasePolicy().as_json())
    return bool(
        previous["row_set_sha256"] == row_set and before == policy.as_json() and unchanged(lake, previous["pins"], pins)
    )


def _unless_withdrawn(row: Row) -> Row:
    if row["state"] == WITHDRAWN:
        raise ValueError(
            f"the content equals that of {row['release_id']}, which {row['decision']['by']} withdrew "
            f"({row['decision']['note']}): change the data or the policy, or approve that release again"
        )
    return row


def _check_counts(lake: Lake, name: str, chosen: Selection, policy: ReleasePolicy) -> None:
    """Check that every candidate is kept or dropped for a reason, and that enough pairs remain.

    Raises `ValueError` if no pair remains or fewer than the policy requires.
    """
    kept, dropped = int(chosen.kept.sum()), chosen.dropped
    if kept + sum(dropped.values()) != len(chosen.kept):
        raise AssertionError(f"{len(chosen.kept)} candidates, but {kept} kept and {dropped} dropped")
    why = ", ".join(f"{reason} {n}" for reason, n in dropped.items()) or "nothing"
    if not kept:
        raise ValueError(f"{lake.uri} has no pairs to release: all {len(chosen.kept)} candidates were dropped ({why})")
    pairs = count(chosen.kind, chosen.kept) | count(chosen.split, chosen.kept)
    if few := [f"{pairs.get(k, 0)} {k} instead of {n}" for k, n in policy.counts.items() if pairs.get(k, 0) < n]:
        raise ValueError(f"release {name}: too few pairs for its policy: {', '.join(few)}; dropped: {why}")
