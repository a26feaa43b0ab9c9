"""Clean up a lake: delete files that are no longer needed, and never anything that a release pins.

Cleaning holds the locks `release` and `commit`, so it never runs concurrently with a transaction. Rules:

* Old versions of tables are deleted, with the files that only they reference. The newest, tagged and branched versions
  are kept.
* A file that no version references was left by a killed writer. Tables without blobs are only written under the lock,
  so there it is deleted immediately. Workers write blobs without the lock, but only after their run has begun. So if
  there is no unfinished run after the files were listed, the listed orphans have no owner and are deleted. Otherwise a
  file must be 7 days old, which is Lance's rule.
* The plan and the staged files of a run are deleted after the run has ended. `committed.json` is kept, because without
  it the same request would run again.
* An unfinished run without a driver is reported, and deleted only with `abandoned`.
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
STAGING_LASTS = timedelta(days=6)  # Lance deletes a file that no version references after 7 days
APPENDING_LASTS = timedelta(hours=1)
TEMPORARY = re.compile(r"(^|/)\.[^/]+\.tmp$|#\d+$")  # our and Lance's temporary files, renamed when complete
TEMPORARY_LASTS = 3600.0  # seconds
EVER = timedelta(days=36500)
MOST_FILES = 1_000_000  # maximum number of orphans deleted per table and call; the next cleaning deletes the rest
RELEASE_TAG = re.compile(r"release\.(?P<name>[^.]+)\.(?P<version>\d+)")


@dataclass(frozen=True)
class Freed:
    """The deleted files and versions of one location; `kept` gives reasons why something was kept, `versions_kept` the
    number of remaining versions of a table."""

    where: str
    files: int = 0
    bytes: int = 0
    versions: int = 0
    versions_kept: int = 0
    kept: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Cleaner:
    lake: Lake
    older_than: timedelta
    dry_run: bool
    abandoned: bool
    check: Callable[[], None]

    def delete(self, where: str, files: dict[str, int]) -> Freed:
        """Delete `files` (name: size) in this order, unless `dry_run`."""
        for number, name in enumerate(() if self.dry_run else files):
            if number % 256 == 0:
                self.check()
            self.lake.store.delete(name)
        return Freed(where, len(files), sum(files.values()))

    def old(self, started_ns: int) -> bool:
        """Return whether a run began at least `older_than` ago."""
        return _age(started_ns) >= self.older_than


def clean(lake: Lake, older_than: timedelta = TWO_WEEKS, dry_run: bool = False, abandoned: bool = False) -> list[Freed]:
    """Delete unneeded versions, orphans and staged files `older_than` this; return what was deleted and what was kept.

    `abandoned` also deletes unfinished runs that began that long ago and have no driver. `dry_run` only counts. If
    killed, the next call deletes the rest.
    """
    commit_lock = lake.lock("commit") if dry_run else exclusive(lake)
    with lake.lock("release") as check_release, commit_lock as check_commit:

        def check() -> None:
            check_release()
            check_commit()

        cleaner = _Cleaner(lake, older_than, dry_run, abandoned, check)
        freed = [_releases(cleaner), _runs(cleaner), _temporary(cleaner)]
        return [*freed, *(_table(cleaner, table) for table in TABLES.values())]


def overview(lake: Lake) -> list[dict[str, Any]]:
    """Return for every table: rows, fragments, versions, bytes on disk, and the tags that pin its versions."""
    rows = []
    for name in TABLES:
        dataset = lake.dataset(name)
        rows.append(
            {
                "table": name,
                "rows": dataset.count_rows(),
                "fragments": len(dataset.get_fragments()),
                "versions": len(dataset.versions()),
                "bytes": sum(lake.store.sizes(f"tables/{name}.lance").values()),
                "pinned_by": sorted(dataset.tags.list()),
            }
        )
    return rows


def _releases(cleaner: _Cleaner) -> Freed:
    """Delete folders and tags of releases whose creation began but never completed."""
    lake, tags = cleaner.lake, 0
    existing = set(lake.column("releases", "release_id").to_pylist())
    if any(".releases." in name for name in _staging_of(lake, unfinished(lake))):
        return Freed("releases", kept=("a release is incomplete: run `dimo release create` again to complete it",))
    files = {
        name: size
        for name, size in lake.store.sizes("releases").items()
        if len(parts := name.split("/")) > 3 and f"{parts[1]}@{parts[2]}" not in existing
    }
    for table in TABLES:
        dataset = lake.dataset(table)
        for tag in dataset.tags.list():
            if (match := RELEASE_TAG.fullmatch(tag)) and f"{match['name']}@{match['version']}" not in existing:
                tags += 1
                if not cleaner.dry_run:
                    dataset.tags.delete(tag)
    deleted = cleaner.delete("releases", files)
    return Freed("releases", deleted.files + tags, deleted.bytes)


def _runs(cleaner: _Cleaner) -> Freed:
    """Delete the files of ended runs except `committed.json`; with `abandoned` also unfinished runs without driver."""
    lake, files = cleaner.lake, dict[str, int]()
    names = lake.store.sizes("runs")
    ended = {name.split("/")[1] for name in names if name.endswith("/committed.json")}
    leases = {f"locks/run-{run_id}.json": run_id for run_id in ended}
    files_of_run: dict[str, dict[str, int]] = {}
    for name, size in (names | lake.store.sizes("locks")).items():
        run_id = leases.get(name) or name.split("/")[1]
        if run_id in ended and not name.endswith("/committed.json"):
            files_of_run.setdefault(run_id, {})[name] = size
    for run_id, run_files in files_of_run.items():
        if cleaner.old((read_json(lake.store, f"runs/{run_id}/plan.json") or {}).get("started_ns", 0)):
            files |= _plan_last(run_files)
    parts = [cleaner.delete("runs", files), *(_unfinished(cleaner, plan, names) for plan in unfinished(lake))]
    kept = tuple(line for part in parts for line in part.kept)
    return Freed("runs", sum(part.files for part in parts), sum(part.bytes for part in parts), kept=kept)


def _unfinished(cleaner: _Cleaner, plan: dict[str, Any], names: dict[str, int]) -> Freed:
    run_id = plan["run_id"]
    if not cleaner.old(plan["started_ns"]):
        return Freed("runs", kept=(f"run {run_id} is in progress",))
    try:
        with cleaner.lake.lock(f"run-{run_id}", wait=False) as check:
            run_files = {name: size for name, size in names.items() if name.startswith(f"runs/{run_id}/")}
            if not cleaner.abandoned:
                size = sum(run_files.values())
                text = f"run {run_id} has no driver ({len(run_files)} files, {size} bytes): delete it with --abandoned"
                return Freed("runs", kept=(text,))
            check()
            return cleaner.delete("runs", _plan_last(run_files))
    except Held:
        return Freed("runs", kept=(f"run {run_id} is in progress",))


def _plan_last(files: dict[str, int]) -> dict[str, int]:
    """Sort the files of a run for deletion: manifests first and the plan last.

    If the deletion is interrupted, the run remains valid with fewer staged shards.
    """
    order = sorted(files, key=lambda name: (name.endswith("/plan.json"), not name.endswith(".json"), name))
    return {name: files[name] for name in order}


def _temporary(cleaner: _Cleaner) -> Freed:
    """Delete temporary files of killed processes; they exist only in a local folder."""
    store, files = cleaner.lake.store, dict[str, int]()
    if isinstance(store, LocalStore):
        for name, size in store.sizes("").items():
            inside = "/" not in name or name.split("/")[0] in ("tables", "runs", "releases", "locks", "downloads")
            if inside and TEMPORARY.search(name):
                path = store.root / name
                if path.exists() and time.time() - path.stat().st_mtime > TEMPORARY_LASTS:
                    files[name] = size
    return cleaner.delete("temporary files", files)


def _table(cleaner: _Cleaner, table: Table) -> Freed:
    lake, where = cleaner.lake, f"tables/{table.name}"
    waiting = [p["run_id"] for p in _staging_blobs(lake, table) if _age(p["started_ns"]) > STAGING_LASTS]
    history = lake.dataset(table.name).versions()
    if waiting:
        text = f"run {waiting[0]} may have files staged here for days: finish it, or clean with --abandoned"
        return Freed(where, versions_kept=len(history), kept=(text,))
    # detached versions are left from a killed commit or compaction: a running one would hold the lock
    detached = {
        name: size
        for name, size in lake.store.sizes(f"tables/{table.name}.lance/_versions").items()
        if name.rsplit("/", 1)[1].startswith("d")
    }
    cleaner.delete(where, detached)
    dataset = lake.dataset(table.name)
    cleaner.check()
    if cleaner.dry_run:
        stats = dataset.explain_cleanup_old_versions(cleaner.older_than, error_if_tagged_old_versions=False).stats
    else:
        stats = dataset.cleanup_old_versions(cleaner.older_than, error_if_tagged_old_versions=False)
    orphans = _orphans(lake, table, dataset)
    deleted = cleaner.delete(where, orphans)
    files = (
        stats.old_versions
        + stats.data_files_removed
        + stats.transaction_files_removed
        + stats.index_files_removed
        + stats.deletion_files_removed
    )
    return Freed(
        where,
        len(detached) + files + deleted.files,
        sum(detached.values()) + stats.bytes_removed + deleted.bytes,
        stats.old_versions,
        len(history) - stats.old_versions,
        tuple(f"version {pin['version']}: {tag}" for tag, pin in sorted(dataset.tags.list().items())),
    )


def _orphans(lake: Lake, table: Table, dataset: lance.LanceDataset) -> dict[str, int]:
    """Return files that no version references and no running writer can own (name: size)."""
    cleanup = dataset.explain_cleanup_old_versions(
        EVER, delete_unverified=True, error_if_tagged_old_versions=False, include_files=True, max_files=MOST_FILES
    )
    if _staging_blobs(lake, table):  # must be checked after the files were listed, see the module's docstring
        return {}
    marker = f"tables/{table.name}.lance/"
    return {
        marker + file.path.rsplit(marker, 1)[1]: file.size_bytes
        for file in cleanup.candidate_files
        if file.unverified and marker in file.path
    }


def _staging_blobs(lake: Lake, table: Table) -> list[dict[str, Any]]:
    """Return unfinished runs that may have staged fragments of a table.

    A run without a stage belongs to one process and lasts seconds. If it is older than `APPENDING_LASTS`, it was
    killed; it is ignored, because it may never be repeated.
    """
    plans = unfinished(lake) if table.blobs else []
    return [plan for plan in plans if "stage" in plan or _age(plan["started_ns"]) < APPENDING_LASTS]


def _staging_of(lake: Lake, plans: list[dict[str, Any]]) -> list[str]:
    return [name for plan in plans for name in lake.store.sizes(f"runs/{plan['run_id']}/staged")]


def _age(started_ns: int) -> timedelta:
    return timedelta(microseconds=(time.time_ns() - started_ns) / 1000)
