"""Random access to clip bytes and to latents: a lake against Parquet, WebDataset, plain files and Lance by URI.

The same bytes in the same order, in turn, with warm and with cold page cache (before each cold run the files are
dropped from it, where the system can). A first run of each job, which is not timed, compares all that is read with
its SHA-256.
"""

import argparse
import hashlib
import os
import statistics
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from tests.benchmarks.side_by_side import in_turn, ratios
from tests.benchmarks.stores import CALL, InFiles, InLake, InLanceByUri, InParquet, InWebDataset, Make

CLIP_BYTES = (150_000, 250_000)
LATENTS = (48, 8, 16, 32)  # float16: 393 KB
PART = 20_000  # bytes of a partial read, from this place on


@dataclass(frozen=True)
class Task:
    """What is read, how, and the SHA-256 of each answer."""

    title: str
    needs: str  # the method that a store has to have
    read: Callable[[Any], Iterable[bytes]]
    hashes: list[str]


def main() -> None:
    """Clips, then latents."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=3000)
    parser.add_argument("--latents", type=int, default=1000)
    parser.add_argument("--reads", type=int, default=500, help="random reads of each kind")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where 4 GB can be written for a while; absent: a temporary folder")
    given = parser.parse_args()
    for table, count, make in (("clip_videos", given.clips, clip), ("latents", given.latents, latents)):
        keys = [hashlib.sha256(f"{table} {k}".encode()).hexdigest()[:32] for k in range(count)]
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            stores = write(Path(folder), keys, make, table)
            os.sync()
            for task in tasks(keys, make, given.reads):
                measure(f"{table}: {task.title}", task, stores, given.rounds, Path(folder))


def clip(key: str) -> bytes:
    """Bytes that nothing can compress, 150 to 250 KB."""
    rng = np.random.default_rng(int(key, 16))
    return rng.bytes(int(rng.integers(*CLIP_BYTES)))


def latents(key: str) -> bytes:
    """Float16 noise of the shape of latents."""
    return np.random.default_rng(int(key, 16)).standard_normal(LATENTS, np.float32).astype(np.float16).tobytes()


def write(folder: Path, keys: list[str], make: Make, table: str) -> dict[str, Any]:
    """Stores by name, ours first."""
    lake, files = InLake(folder / "lake", keys, make, table), InFiles(folder / "files", keys, make)
    return {
        "lake": lake,
        "Parquet, groups of 16": InParquet(folder / "parquet16", keys, make, 16),
        "Parquet, groups of 100": InParquet(folder / "parquet100", keys, make, 100),
        "WebDataset": InWebDataset(folder / "webdataset", keys, make),
        "plain files": files,
        "Lance by URI": InLanceByUri(folder / "by_uri.lance", files, table),
    }


def tasks(keys: list[str], make: Make, reads: int) -> list[Task]:
    """Random order first, then all in storage order."""
    chosen = np.random.default_rng(1).permutation(keys)[:reads].tolist()
    calls = [chosen[k : k + CALL] for k in range(0, len(chosen), CALL)]
    hashes = {key: hashlib.sha256(make(key)).hexdigest() for key in keys}
    whole = [hashes[key] for key in chosen]
    parts = [hashlib.sha256(make(key)[PART : 2 * PART]).hexdigest() for key in chosen]
    parts_title = f"shuffled, {PART // 1000} KB of one per call"
    return [
        Task("shuffled, one per call", "one", lambda store: map(store.one, chosen), whole),
        Task(f"shuffled, {CALL} per call", "many", lambda store: chain.from_iterable(map(store.many, calls)), whole),
        Task("shuffled, all in one call (WebDataset: a scan)", "many", lambda store: store.many(chosen), whole),
        Task(parts_title, "part", lambda store: (store.part(key, PART, PART) for key in chosen), parts),
        Task("all in storage order", "epoch", lambda store: store.epoch(), list(hashes.values())),
    ]


def measure(title: str, task: Task, stores: dict[str, Any], rounds: int, folder: Path) -> None:
    """Check, time and print one task."""
    able = {name: store for name, store in stores.items() if hasattr(store, task.needs)}
    jobs = {}
    for name, store in able.items():
        jobs[name] = partial(_exhaust, task.read, store)
        if [hashlib.sha256(data).hexdigest() for data in task.read(store)] != task.hashes:
            raise AssertionError(f"{title}: {name} gave other bytes than were written")
    states = {"warm": in_turn(jobs, rounds)}
    if hasattr(os, "posix_fadvise"):
        states["cold"] = in_turn(jobs, rounds, partial(_drop_from_cache, folder))
    columns = [f"{state}, {what}" for state in states for what in ("ms each", "ours / it")]
    table = Table("", *columns, title=f"{title}: median (min - max) of {rounds} rounds", title_justify="left")
    for name in jobs:
        cells = []
        for seconds in states.values():
            cells.append(_spread([1000 * s / len(task.hashes) for s in seconds[name]]))
            cells.append(_spread(ratios(seconds["lake"], seconds[name])))
        table.add_row(name, *cells)
    Console(width=140).print(table)


def _exhaust(read: Callable[[Any], Iterable[bytes]], store: Any) -> None:
    for _ in read(store):
        pass


def _drop_from_cache(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.3f} ({min(values):.3f} - {max(values):.3f})"


if __name__ == "__main__":
    main()
