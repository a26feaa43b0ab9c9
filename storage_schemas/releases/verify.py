"""Verify that the files of a release are unchanged by reading all of them."""

import hashlib
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.takedown import taken_down
from opendimo.storage_schemas.releases.files import row_set_sha256
from opendimo.storage_schemas.releases.inventory import (
    OnProgress,
    hash_files,
    misfits,
    read_inventory,
    total_size,
)
from opendimo.storage_schemas.releases.release import Release, find_release, open_row
from opendimo.storage_schemas.releases.selection import column, lookup

CLIPS = 64  # videos in memory at once
SIDES = ("driving", "target")


@dataclass
class Findings:
    """The result of `verify`: one line per damage; sources taken down since, and the number of their pairs."""

    release: str
    files: int = 0
    bytes: int = 0
    videos: int = 0
    damaged: list[str] = field(default_factory=list)
    taken_down: list[str] = field(default_factory=list)
    taken_down_pairs: int = 0


def verify(lake: Lake, release_id: str, deep: bool = False, on_progress: OnProgress = lambda *_: None) -> Findings:
    """Hash every file of a release and compare; with `deep` also compare every stored video with its own hash.

    Damage is reported in the result and raises no error. Raises `ValueError` if there is no such release.
    """
    row = find_release(lake, release_id)
    findings = Findings(row["release_id"])
    try:
        entries = read_inventory(lake, release_id, row["inventory_sha256"])
    except ValueError as error:
        findings.damaged.append(str(error))
        return findings
    findings.files, findings.bytes = len(entries), total_size(entries.values())
    findings.damaged += misfits(lake, entries)
    damaged = {line.split(" ")[0] for line in findings.damaged}
    sizes = {name: size for name, (size, _) in entries.items() if name not in damaged}
    hashes = hash_files(lake, sizes, on_progress)
    findings.damaged += [f"{name} was changed" for name in sizes if hashes[name] != entries[name][1]]
    if findings.damaged:  # the contents of damaged files cannot be trusted
        return findings
    try:
        release = open_row(lake, row)
    except ValueError as error:
        findings.damaged.append(str(error))
        return findings
    pairs = column(release.dataset("pairs"), "pair_id")
    pairs = pairs.take(pc.sort_indices(pairs))
    if row_set_sha256(pairs) != row["row_set_sha256"]:
        findings.damaged.append(f"release {release_id}: its pairs do not match its row set hash")
    if deep:
        _check_videos(release, findings)
    findings.taken_down, findings.taken_down_pairs = taken_down_since(lake, release)
    return findings


def check_bytes(lake: Lake, release_id: str, on_progress: OnProgress = lambda *_: None) -> None:
    """Verify every file of a release before use. Raises `ValueError`, naming the first damage."""
    if damaged := verify(lake, release_id, on_progress=on_progress).damaged:
        more = f", and {len(damaged) - 1} more" if damaged[1:] else ""
        raise ValueError(f"release {release_id} was changed: {damaged[0]}{more}; see `dimo release verify`")


def _check_videos(release: Release, findings: Findings) -> None:
    stated = release.scan("clip_videos", ["clip_id", "sha256"])
    for batch in stated.to_batches(CLIPS):
        ids = batch["clip_id"].to_pylist()
        videos = release.blobs("clip_videos", "video", ids)
        findings.videos += len(videos)
        findings.damaged += [
            f"the video of clip {clip_id} does not match its stored hash"
            for clip_id, video, sha256 in zip(ids, videos, batch["sha256"].to_pylist(), strict=True)
            if hashlib.sha256(video).hexdigest() != sha256
        ]


def taken_down_since(lake: Lake, release: Release) -> tuple[list[str], int]:
    """Return the sources of a release's pairs that are taken down now, and the number of their pairs."""
    clips = release.scan("clips", ["clip_id", "source_id"])
    clips = clips.filter(pc.is_in(clips["source_id"], value_set=taken_down(lake))).combine_chunks()
    clip_ids = clips["clip_id"].combine_chunks()
    driving, target = (lookup(column(release.dataset("pairs"), f"{side}_clip_id"), clip_ids) for side in SIDES)
    used = np.unique(np.concatenate([driving, target]))
    sources = clips["source_id"].take(pa.array(used[used >= 0]))
    return sorted(set(sources.to_pylist())), int(((driving >= 0) | (target >= 0)).sum())
