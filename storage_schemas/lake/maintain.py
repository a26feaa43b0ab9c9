"""Cleaning: what nobody can need any more goes, what a release pins never does.

Everything happens under the locks `release` and `commit`, so it never meets a transaction. Whose file it is decides:

* old versions of tables go with the files that only they name; the newest, tagged and branched ones stay;
* a file that no version names was left by a writer that was killed. Tables without blobs are only written under the
  lock, so there it goes at once. Workers write blobs without the lock, but each after its run has begun: what was
  listed before no unfinished run was found belongs to nobody. Else it has to be 7 days old, Lance's own rule;
* plan and staging go when a run has ended; `committed.json` stays, or the same request would run again;
* an unfinished run whose driver is gone is reported, and dropped only if that is asked for.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import lance

from opendimo.storage_schemas.lake.commit import exclusive
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.lock import Held
from opendimo.storage_schemas.lake.runs import unfinished
from opendimo.storage_schemas.lake.store import LocalStore, read_json
from opendimo.storage_schemas.tables import TABLES, Table

TWO_WEEKS = timedelta(days=14)
STAGING_LASTS = timedelta(days=6)  # Lance takes a file that no version names for lost after 7 days
APPENDING_LASTS = timedelta(hours=1)
TEMPORARY = re.compile(r"(^|/)\.[^/]+\.tmp$|#\d+$")  # of files that are renamed when whole: ours, and Lance's
TEMPORARY_LASTS = 3600.0  # seconds
EVER = timedelta(days=36500)
MOST_FILES = 1_000_000  # orphans of one table in one go; the next cleaning takes the rest
RELEASE_TAG = re.compile(r"release\.(?P<name>[^.]+)\.(?P<version>\d+)")


@dataclass(frozen=True)
class Freed:
    """What went from one place, and why something stayed. `versions_kept` counts what is left of a table's history."""

    where: str
    files: int = 0
    bytes: int = 0
    versions: int = 0
    versions_kept: int = 0
    kept: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Broom:
    lake: Lake
    older_than: timedelta
    dry_run: bool
    abandoned: bool
    check: Callable[[], None]

    def sweep(self, where: str, files: dict[str, int]) -> Freed:
        """Delete `files` (name: size) in this order."""
        for number, name in enumerate(() if self.dry_run else files):
            if number % 256 == 0:
                self.check()
            self.lake.store.delete(name)
        return Freed(where, len(files), sum(files.values()))

    def old(self, started_ns: int) -> bool:
        """Whether a run began longer ago than what is kept."""
        return _age(started_ns) >= self.older_than


def clean(lake: Lake, older_than: timedelta = TWO_WEEKS, dry_run: bool = False, abandoned: bool = False) -> list[Freed]:
    """Free what nobody can need: versions, orphans and staging `older_than` this; what went, and why something stayed.

    `abandoned` also drops unfinished runs that began that long ago and have no driver. `dry_run` only counts. Killed
    anywhere it has freed a part, and the next one frees the rest.
    """
    alone = lake.lock("commit") if dry_run else exclusive(lake)
    with lake.lock("release") as releases, alone as commits:

        def check() -> None:
            releases()
            commits()

        broom = _Broom(lake, older_than, dry_run, abandoned, check)
        freed = [_releases(broom), _runs(broom), _temporary(broom)]
        return [*freed, *(_table(broom, table) for table in TABLES.values())]


def overview(lake: Lake) -> list[dict[str, Any]]:
    """Of every table: rows, fragments, versions, bytes on disk, and the tags that pin versions of it."""
    found = []
    for name in TABLES:
        dataset = lake.dataset(name)
        found.append(
            {
                "table": name,
                "rows": dataset.count_rows(),
                "fragments": len(dataset.get_fragments()),
                "versions": len(dataset.versions()),
                "bytes": sum(lake.store.sizes(f"tables/{name}.lance").values()),
                "pinned_by": sorted(dataset.tags.list()),
            }
        )
    return found


def _releases(broom: _Broom) -> Freed:
    """Folders and tags of releases that were begun and never made."""
    lake, tags = broom.lake, 0
    made = set(lake.column("releases", "release_id").to_pylist())
    if any(".releases." in name for name in _staging_of(lake, unfinished(lake))):
        return Freed("releases", kept=("a release is half made: `dimo release create` again completes it",))
    files = {
        name: size
        for name, size in lake.store.sizes("releases").items()
        if len(parts := name.split("/")) > 3 and f"{parts[1]}@{parts[2]}" not in made
    }
    for table in TABLES:
        dataset = lake.dataset(table)
        for tag in dataset.tags.list():
            if (found := RELEASE_TAG.fullmatch(tag)) and f"{found['name']}@{found['version']}" not in made:
                tags += 1
                if not broom.dry_run:
                    dataset.tags.delete(tag)
    swept = broom.sweep("releases", files)
    return Freed("releases", swept.files + tags, swept.bytes)


def _runs(broom: _Broom) -> Freed:
    """What runs that ended leave but for `committed.json`, and with `abandoned` runs that nobody will finish."""
    lake, files = broom.lake, dict[str, int]()
    names = lake.store.sizes("runs")
    ended = {name.split("/")[1] for name in names if name.endswith("/committed.json")}
    leases = {f"locks/run-{run_id}.json": run_id for run_id in ended}
    left: dict[str, dict[str, int]] = {}
    for name, size in (names | lake.store.sizes("locks")).items():
        run_id = leases.get(name) or name.split("/")[1]
        if run_id in ended and not name.endswith("/committed.json"):
            left.setdefault(run_id, {})[name] = size
    for run_id, own in left.items():
        if broom.old((read_json(lake.store, f"runs/{run_id}/plan.json") or {}).get("started_ns", 0)):
            files |= _plan_last(own)
    parts = [broom.sweep("runs", files), *(_unfinished(broom, plan, names) for plan in unfinished(lake))]
    kept = tuple(line for part in parts for line in part.kept)
    return Freed("runs", sum(part.files for part in parts), sum(part.bytes for part in parts), kept=kept)


def _unfinished(broom: _Broom, plan: dict[str, Any], names: dict[str, int]) -> Freed:
    run_id = plan["run_id"]
    if not broom.old(plan["started_ns"]):
        return Freed("runs", kept=(f"run {run_id} is under way",))
    try:
        with broom.lake.lock(f"run-{run_id}", wait=False) as check:
            own = {name: size for name, size in names.items() if name.startswith(f"runs/{run_id}/")}
            if not broom.abandoned:
                size = sum(own.values())
                text = f"run {run_id} has no driver ({len(own)} files, {size} bytes): drop it with --abandoned"
                return Freed("runs", kept=(text,))
            # manifests first and the plan last: killed in between, it is a run of which less is staged
            check()
            return broom.sweep("runs", _plan_last(own))
    except Held:
        return Freed("runs", kept=(f"run {run_id} is under way",))


def _plan_last(files: dict[str, int]) -> dict[str, int]:
    """Manifests first and the plan last: killed in between, it is a run of which less is staged."""
    order = sorted(files, key=lambda name: (name.endswith("/plan.json"), not name.endswith(".json"), name))
    return {name: files[name] for name in order}


def _temporary(broom: _Broom) -> Freed:
    """Files that a killed process was still writing; only a file system has such."""
    store, files = broom.lake.store, dict[str, int]()
    if isinstance(store, LocalStore):
        for name, size in store.sizes("").items():
            inside = "/" not in name or name.split("/")[0] in ("tables", "runs", "releases", "locks", "downloads")
            if inside and TEMPORARY.search(name):
                path = store.root / name
                if path.exists() and time.time() - path.stat().st_mtime > TEMPORARY_LASTS:
                    files[name] = size
    return broom.sweep("temporary files", files)


def _table(broom: _Broom, table: Table) -> Freed:
    lake, where = broom.lake, f"tables/{table.name}"
    waiting = [p["run_id"] for p in _staging_blobs(lake, table) if _age(p["started_ns"]) > STAGING_LASTS]
    history = lake.dataset(table.name).versions()
    if waiting:
        text = f"run {waiting[0]} may have staged bytes here for days: finish it, or clean with --abandoned"
        return Freed(where, versions_kept=len(history), kept=(text,))
    # detached versions belong to a commit or compaction that was killed: those hold the lock that is held here
    detached = {
        name: size
        for name, size in lake.store.sizes(f"tables/{table.name}.lance/_versions").items()
        if name.rsplit("/", 1)[1].startswith("d")
    }
    broom.sweep(where, detached)
    dataset = lake.dataset(table.name)
    broom.check()
    if broom.dry_run:
        stats = dataset.explain_cleanup_old_versions(broom.older_than, error_if_tagged_old_versions=False).stats
    else:
        stats = dataset.cleanup_old_versions(broom.older_than, error_if_tagged_old_versions=False)
    orphans = _orphans(lake, table, dataset)
    swept = broom.sweep(where, orphans)
    files = (
        stats.old_versions
        + stats.data_files_removed
        + stats.transaction_files_removed
        + stats.index_files_removed
        + stats.deletion_files_removed
    )
    return Freed(
        where,
        len(detached) + files + swept.files,
        sum(detached.values()) + stats.bytes_removed + swept.bytes,
        stats.old_versions,
        len(history) - stats.old_versions,
        tuple(f"version {pin['version']}: {tag}" for tag, pin in sorted(dataset.tags.list().items())),
    )


def _orphans(lake: Lake, table: Table, dataset: lance.LanceDataset) -> dict[str, int]:
    """Files that no version names and no running writer can own (name: size)."""
    found = dataset.explain_cleanup_old_versions(
        EVER, delete_unverified=True, error_if_tagged_old_versions=False, include_files=True, max_files=MOST_FILES
    )
    if _staging_blobs(lake, table):  # looked at after the listing: see above
        return {}
    marker = f"tables/{table.name}.lance/"
    return {
        marker + file.path.rsplit(marker, 1)[1]: file.size_bytes
        for file in found.candidate_files
        if file.unverified and marker in file.path
    }


def _staging_blobs(lake: Lake, table: Table) -> list[dict[str, Any]]:
    """Unfinished runs of which rows of a table may be staged as fragments. A run without a stage is of one process and
    lasts seconds: an old one was killed, and nobody may ever repeat it."""
    plans = unfinished(lake) if table.blobs else []
    return [plan for plan in plans if "stage" in plan or _age(plan["started_ns"]) < APPENDING_LASTS]


def _staging_of(lake: Lake, plans: list[dict[str, Any]]) -> list[str]:
    return [name for plan in plans for name in lake.store.sizes(f"runs/{plan['run_id']}/staged")]


def _age(started_ns: int) -> timedelta:
    return timedelta(microseconds=(time.time_ns() - started_ns) / 1000)
