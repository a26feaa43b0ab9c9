"""Making a studio: every take filmed and published, on several processes, all or nothing."""

import json
import multiprocessing
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

VERSION = 1
"""Raise it when the pictures change."""


@dataclass(frozen=True)
class StudioPaths:
    """Folders to ingest, one for each kind of source, and the `truth` that is not in them (npz files)."""

    internet: Path
    unreal: Path
    multiview: Path
    truth: Path


def make_studio(
    out: Path, *, seed: int = 0, frames: int = 60, size: tuple[int, int] = (640, 360), workers: int = 2
) -> StudioPaths:
    """Film synthetic people into `out`: internet videos, an Unreal render job and a multi-view take.

    `frames` for each view at 30 per second, `size` (width, height) in even pixels. The same arguments give the same
    videos. Nothing is done where `out` already holds this studio; a run that breaks off leaves no `out`.
    Raises `ValueError` where `out` holds anything else.
    """
    out = Path(out).absolute()
    wanted = {"studio": VERSION, "seed": seed, "frames": frames, "size": list(size)}
    out.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(out.parent / f".{out.name}.lock"):
        if not _is_finished(out, wanted):
            unfinished = out.parent / f".{out.name}.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            _film_all(unfinished, seed, frames, size, workers)
            (unfinished / "studio.json").write_text(json.dumps(wanted))
            os.replace(unfinished, out)
    return StudioPaths(out / "internet", out / "unreal", out / "multiview", out / "truth")


def _is_finished(out: Path, wanted: dict[str, object]) -> bool:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    found = out / "studio.json"
    if not found.is_file() or json.loads(found.read_text()) != wanted:
        raise ValueError(f"{out} holds something else than the studio {wanted}: give another folder or remove it")
    return True


def _film_all(out: Path, seed: int, frames: int, size: tuple[int, int], workers: int) -> None:
    from pipelines.studio.publish import publish, write_job
    from pipelines.studio.script import programme

    takes = programme(seed, frames)
    firsts, views = [], 0
    for take in takes:
        firsts.append(views)
        views += len(take.views) if take.kind == "unreal" else 0
    # spawn: a forked torch can hang
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_one_thread) as pool:
        for _ in pool.map(publish, takes, firsts, [size] * len(takes), [out] * len(takes)):
            pass
    write_job([(t, first) for t, first in zip(takes, firsts, strict=True) if t.kind == "unreal"], out)


def _one_thread() -> None:
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
