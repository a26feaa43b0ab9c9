"""Render all takes of the studio in several processes, atomically."""

import json
import multiprocessing
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

VERSION = 1
"""Increment when the rendered frames change."""


@dataclass(frozen=True)
class StudioPaths:
    """Folders to ingest, one per kind of source, and the ground `truth` that they do not contain (npz files)."""

    internet: Path
    unreal: Path
    multiview: Path
    truth: Path


def make_studio(
    out: Path, *, seed: int = 0, frames: int = 49, size: tuple[int, int] = (640, 360), workers: int = 2
) -> StudioPaths:
    """Render synthetic people into `out`: internet videos, an Unreal render job and a multi-view take.

    `frames` per view at 30 frames per second, `size` (width, height) in even pixels. The same arguments give the same
    videos. Does nothing if `out` already holds a studio with the same arguments; an interrupted run leaves no `out`.
    Raises `ValueError` if `out` holds anything else.
    """
    out = Path(out).absolute()
    identity = {"studio": VERSION, "seed": seed, "frames": frames, "size": list(size)}
    out.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(out.parent / f".{out.name}.lock"):
        if not _is_finished(out, identity):
            unfinished = out.parent / f".{out.name}.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            _film_all(unfinished, seed, frames, size, workers)
            (unfinished / "studio.json").write_text(json.dumps(identity))
            os.replace(unfinished, out)
    return StudioPaths(out / "internet", out / "unreal", out / "multiview", out / "truth")


def _is_finished(out: Path, identity: dict[str, object]) -> bool:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    manifest = out / "studio.json"
    if not manifest.is_file() or json.loads(manifest.read_text()) != identity:
        raise ValueError(f"{out} does not hold the studio {identity}: choose another folder or delete it")
    return True


def _film_all(out: Path, seed: int, frames: int, size: tuple[int, int], workers: int) -> None:
    # spawn, because torch can hang after a fork
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_one_thread) as pool:
        takes = pool.submit(_count, seed, frames).result()
        for _ in pool.map(_publish, range(takes), *([each] * takes for each in (seed, frames, size, out))):
            pass


def _count(seed: int, frames: int) -> int:
    from opendimo.pipelines.studio.script import programme

    return len(programme(seed, frames))


def _publish(number: int, seed: int, frames: int, size: tuple[int, int], out: Path) -> None:
    from opendimo.pipelines.studio.publish import publish, write_broken, write_job
    from opendimo.pipelines.studio.script import programme

    takes = programme(seed, frames)
    publish(takes[number], size, out)
    if number == 0:
        write_job(takes, out)
        write_broken(out)


def _one_thread() -> None:
    """Limit each worker to one thread, because a single thread sums in a fixed order and workers use all processors."""
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
