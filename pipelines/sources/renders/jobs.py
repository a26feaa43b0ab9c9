"""Find render jobs below a folder, by the names of their files."""

import os
from collections.abc import Iterator
from pathlib import Path

from opendimo.pipelines.engine.stage import DataError

BEDLAM, MULTICAMVIDEO, MANIFEST = "bedlam", "multicamvideo", "manifest"
EXTRINSICS = "cameras/camera_extrinsics.json"
MANIFEST_SUFFIX = "render_manifest.json"
MEDIA = {"mp4", "png", "depth", "masks", "ground_truth", "motions_npz", "videos", "cameras"}
"""Folders of a job that are not searched for further jobs: they may hold millions of pictures."""


def jobs_in(root: Path) -> list[tuple[str, Path]]:
    """Return every job at or below `root`: its layout, and its folder (for manifests, the file).

    Raises `DataError` if there is none.
    """
    if jobs := list(_jobs(root)):
        return jobs
    raise DataError(
        f"{root}: no render job below: a job is a folder with be_seq.csv, mp4/ and ground_truth/, "
        f"with {EXTRINSICS}, or with a {MANIFEST_SUFFIX}"
    )


def _jobs(root: Path) -> Iterator[tuple[str, Path]]:
    for path, folders, files in os.walk(root):
        folder = Path(path)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if manifests := sorted(filter(_is_manifest, files)):
            yield from ((MANIFEST, folder / name) for name in manifests)
        elif "cameras" in folders and (folder / EXTRINSICS).is_file():
            yield MULTICAMVIDEO, folder
        elif _is_bedlam(folders, files):
            yield BEDLAM, folder
        else:
            continue
        folders[:] = [name for name in folders if name not in MEDIA]


def _is_manifest(name: str) -> bool:
    return name == MANIFEST_SUFFIX or name.endswith(f".{MANIFEST_SUFFIX}")


def _is_bedlam(folders: list[str], files: list[str]) -> bool:
    """Return whether a folder with these entries is a job of BEDLAM, possibly an incomplete one."""
    return "be_seq.csv" in files or "mp4" in folders or {"png", "ground_truth"} <= set(folders)
