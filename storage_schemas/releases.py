"""Releases: immutable, named, versioned sets of pairs, pinned to tagged table versions.

Training reads a release and nothing else; `open_release` refuses one whose tables are not what was pinned.
"""

import hashlib
import json
import re
import time
from collections import Counter
from dataclasses import dataclass
from importlib.metadata import version as package_version
from typing import Any

import lance
from filelock import FileLock

from storage_schemas.ids import stable_id
from storage_schemas.lake import Lake, blobs, scan
from storage_schemas.rows import Row, arrow_to_rows

PINNED = ("sources", "captures", "clips", "clip_videos", "poses", "captions", "latents", "pairs")


@dataclass(frozen=True)
class Release:
    """An opened release. `id` is NAME@VERSION; `sha256` covers the row set and every pinned table version."""

    id: str
    sha256: str
    manifest: dict[str, Any]
    pair_ids: frozenset[str]
    lake_uri: str
    versions: dict[str, int]

    def read(self, table: str, columns: list[str] | None = None, where: str | None = None) -> list[Row]:
        """Rows of a pinned table, without blobs; of `pairs`, only those of the release."""
        wanted = [*columns, "pair_id"] if table == "pairs" and columns else columns
        rows = arrow_to_rows(scan(self._dataset(table), table, wanted and list(dict.fromkeys(wanted)), where))
        return [r for r in rows if r["pair_id"] in self.pair_ids] if table == "pairs" else rows

    def blobs(self, table: str, column: str, keys: list[str]) -> list[bytes]:
        """Bytes of a blob column of a pinned table by primary key, in the order asked."""
        return blobs(self._dataset(table), table, column, keys)

    def _dataset(self, table: str) -> lance.LanceDataset:
        return Lake(self.lake_uri).dataset(table, self.versions[table])


def create_release(lake: Lake, name: str, approver: str | None = None) -> Row:
    """Pin the newest set of pairs as the next version of `name`; the same content again gives the same release.

    A set is what one piece of work of the `pairs` stage made; pairs of tombstoned sources are left out. Raises
    `ValueError` where the name is not usable, there are no pairs, or a capture or subject is in both splits.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", name):
        raise ValueError(f"release name {name!r}: use lower-case letters, digits, - and _, at most 63")
    with FileLock(str(lake.root / "release.lock")):
        pairs = _living_pairs(lake)
        _check_splits(pairs)
        pair_ids = sorted(p["pair_id"] for p in pairs)
        row_set = hashlib.sha256("\n".join(pair_ids).encode()).hexdigest()
        previous = max(list_releases(lake, name), key=lambda r: int(r["version"]), default=None)
        if previous and previous["row_set_sha256"] == row_set and _same_content(lake, previous["pins"]):
            return previous
        version = 1 + (int(previous["version"]) if previous else 0)
        row = {
            "release_id": f"{name}@{version}",
            "name": name,
            "version": version,
            "parent": previous["release_id"] if previous else None,
            "pins": [_pin(lake, table, f"release.{name}.{version}") for table in PINNED],
            "pair_ids": pair_ids,
            "row_set_sha256": row_set,
            "manifest": json.dumps(_manifest(lake, pairs), sort_keys=True),
            "approver": approver,
            "created_at": time.time_ns(),
        }
        lake.append(stable_id("release", row["release_id"], row["pins"], row_set), {"releases": [row]})
        return row


def list_releases(lake: Lake, name: str | None = None) -> list[Row]:
    """All releases, or those of one name, oldest first."""
    rows = lake.read("releases")
    return sorted((r for r in rows if name in (None, r["name"])), key=lambda r: (r["name"], r["version"]))


def open_release(lake_uri: str, release_id: str) -> Release:
    """Open NAME@VERSION. Raises `ValueError` where it does not exist or a pinned table is not what was pinned."""
    lake = Lake(lake_uri)
    rows = [r for r in list_releases(lake) if r["release_id"] == release_id]
    if not rows:
        known = ", ".join(r["release_id"] for r in list_releases(lake)) or "none"
        raise ValueError(f"no release {release_id} in {lake_uri}; there are: {known}")
    row = rows[0]
    for pin in row["pins"]:
        _verify(lake, release_id, pin)
    versions = {pin["table"]: pin["version"] for pin in row["pins"]}
    sha256 = hashlib.sha256(json.dumps([row["row_set_sha256"], row["pins"]], sort_keys=True).encode()).hexdigest()
    return Release(release_id, sha256, json.loads(row["manifest"]), frozenset(row["pair_ids"]), lake.uri, versions)


def _living_pairs(lake: Lake) -> list[Row]:
    gone = set(lake.scan("sources", ["source_id"], "tombstone")["source_id"].to_pylist())
    source_of = {c["clip_id"]: c["source_id"] for c in lake.read("clips", ["clip_id", "source_id"])}
    version = {r["run_id"]: r["version"] for r in lake.read("ledger", ["run_id", "version"], "table_name = 'pairs'")}
    pairs = lake.read("pairs")
    newest = max((version[p["run_id"]] for p in pairs), default=None)
    pairs = [p for p in pairs if version[p["run_id"]] == newest]
    living = [p for p in pairs if gone.isdisjoint({source_of[p["driving_clip_id"]], source_of[p["target_clip_id"]]})]
    if not living:
        raise ValueError(f"{lake.uri} has no pairs to release: ingest, label and encode clips first")
    return living


def _check_splits(pairs: list[Row]) -> None:
    for what in ("capture_id", "subject"):
        splits: dict[str, set[str]] = {}
        for pair in pairs:
            if pair[what] is not None:
                splits.setdefault(pair[what], set()).add(pair["split"])
        if leaking := sorted(k for k, s in splits.items() if len(s) > 1):
            raise ValueError(f"{what} {leaking[0]} is in both splits: the test split would leak into training")


def _pin(lake: Lake, table: str, tag: str) -> dict[str, Any]:
    """Tag the newest version of a table. A tag of this name can only be left from an attempt that was killed before
    there was a release, so it pins nothing yet."""
    dataset = lake.dataset(table)
    if tag in dataset.tags.list():
        dataset.tags.delete(tag)
    dataset.tags.create(tag, dataset.version)
    return _facts(lake, table, tag)


def _facts(lake: Lake, table: str, tag: str) -> dict[str, Any]:
    dataset = lake.dataset(table, tag)
    return {
        "table": table,
        "tag": tag,
        "version": dataset.version,
        "rows": dataset.count_rows(),
        "fragments_sha256": _fragments_sha256(dataset),
    }


def _verify(lake: Lake, release_id: str, pin: dict[str, Any]) -> None:
    try:
        facts = _facts(lake, pin["table"], pin["tag"])
    except (ValueError, OSError) as error:
        raise ValueError(f"release {release_id}: the pinned version of {pin['table']} is gone ({error})") from error
    if facts != pin:
        raise ValueError(f"release {release_id}: table {pin['table']} is not what was pinned; make a new release")


def _same_content(lake: Lake, pins: list[dict[str, Any]]) -> bool:
    return all(_fragments_sha256(lake.dataset(p["table"])) == p["fragments_sha256"] for p in pins)


def _fragments_sha256(dataset: lance.LanceDataset) -> str:
    files = [[f.fragment_id, sorted(d.path for d in f.data_files()), f.count_rows()] for f in dataset.get_fragments()]
    return hashlib.sha256(json.dumps(sorted(files)).encode()).hexdigest()


def _manifest(lake: Lake, pairs: list[Row]) -> dict[str, Any]:
    licence = {s["source_id"]: s["licence"] or "unknown" for s in lake.read("sources", ["source_id", "licence"])}
    source = {c["clip_id"]: c["source_id"] for c in lake.read("clips", ["clip_id", "source_id"])}
    return {
        "pairs": len(pairs),
        "by_kind": Counter(p["kind"] for p in pairs),
        "by_source": Counter(p["source_kind"] for p in pairs),
        "by_split": Counter(p["split"] for p in pairs),
        "by_licence": Counter(licence.get(source[p["target_clip_id"]], "unknown") for p in pairs),
        "captures": len({p["capture_id"] for p in pairs}),
        "code_version": package_version("opendimo"),
    }
