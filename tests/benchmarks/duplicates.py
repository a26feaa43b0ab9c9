"""Finding planted copies among many clips: cost, recall and false merges as the number of hashes grows.

The clips are made: people-like blobs move before a background that 20 clips share (one room), so that hashes alone
cannot tell them apart. One clip in 50 is a copy: trimmed by no whole number of pictures, with noise and other light;
half of these are cropped, and half of those mirrored as well. Sampled clips are searched for as the stage does it, and
all answers counted.
"""

import argparse
import resource
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from opendimo.pipelines.duplicates.align import same_footage
from opendimo.pipelines.duplicates.fingerprint import RATE, searched_hashes
from opendimo.pipelines.duplicates.pictures import MIRROR, SIDE
from opendimo.pipelines.duplicates.search import HashIndex
from opendimo.pipelines.duplicates.stage import DuplicatesConfig
from opendimo.pipelines.quality.policy import Policy

SIZES = (10_000, 100_000, 1_000_000)
ROOM, EVERY = 20, 50
SAMPLE = 150
SECONDS, TRIMMED = 6.0, 0.73
PER_CLIP = 10  # hashes, about


@dataclass(frozen=True)
class Counted:
    """What came out of one size; times in seconds."""

    hashes: int
    build: float
    megabytes: float
    search: list[float]
    verify: list[float]
    met: int
    found: int
    planted: int
    wrong: int
    pairs: int


def film(clip: int) -> NDArray[np.uint8]:
    """Pictures [n, SIDE, SIDE] of a clip; one in `EVERY` is a copy of the one before it."""
    if clip % EVERY:
        return np.clip(_scene(clip, 0.0), 0, 255).astype(np.uint8)
    random = np.random.default_rng([2, clip])
    pictures = _scene(clip + 1, TRIMMED)
    if changed := clip // EVERY % 2:
        inner = np.clip(np.linspace(0.6, SIDE - 1.6, SIDE).round().astype(int), 0, SIDE - 1)
        pictures = 0.5 * pictures + 0.5 * pictures[:, inner][:, :, inner]
    if changed and clip // EVERY % 4 == 1:
        pictures = pictures[:, :, ::-1]
    pictures = 0.9 * pictures + 12 + random.normal(0, 1.5, pictures.shape)
    return np.clip(pictures, 0, 255).astype(np.uint8)


def measure(count: int, sample: int) -> Counted:
    """Index `count` hashes, about, then search for a sample of the copies and of the others."""
    clips = count // PER_CLIP
    hashes = [searched_hashes(film(clip), round(RATE)) for clip in range(clips)]
    owners = np.repeat(np.arange(clips, dtype=np.int32), [len(row) for row in hashes])
    before = _megabytes()
    started = time.perf_counter()
    index = HashIndex.of(np.concatenate(hashes), owners)
    build, grown = time.perf_counter() - started, _megabytes() - before
    policy, config = Policy(), DuplicatesConfig()
    search, verify, met, found, wrong, pairs = [], [], 0, 0, 0, 0
    copies = list(range(EVERY, clips - 1, EVERY))[:sample]
    others = [clip for clip in range(2, clips) if clip % EVERY > 1][: sample * EVERY : EVERY // 2 + 1][:sample]
    for clip in copies + others:
        asked = film(clip)
        accepted, candidates = set(), set()
        for mirrored in (False, True):
            started = time.perf_counter()
            wanted = searched_hashes(asked) ^ (MIRROR if mirrored else np.uint64(0))
            near, votes = index.near(wanted)
            chosen = near[np.lexsort([near, -votes])][: config.candidates + 1]
            chosen = chosen[chosen != clip]
            search.append(time.perf_counter() - started)
            candidates |= set(chosen.tolist())
            for other in chosen.tolist():
                turned, held = asked[:, :, ::-1] if mirrored else asked, film(other)
                started = time.perf_counter()
                evidence = same_footage(turned, 1 / RATE, held, 1 / RATE)
                verify.append(time.perf_counter() - started)
                pairs += 1
                if (
                    evidence
                    and evidence.similarity >= policy.duplicate_similarity
                    and evidence.distance <= policy.duplicate_distance
                ):
                    accepted.add(other)
        true = {clip + 1} if clip % EVERY == 0 else set()
        met, found = met + len(true & candidates), found + len(true & accepted)
        wrong += len(accepted - true)
    return Counted(len(index.hashes), build, grown, search, verify, met, found, len(copies), wrong, pairs)


def _scene(clip: int, start: float) -> NDArray[np.float64]:
    """A room with a moving figure from `start` seconds on, [n, SIDE, SIDE]."""
    room, act = np.random.default_rng([0, clip // ROOM]), np.random.default_rng([1, clip])
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    waves = room.normal(0, 1, (12, 4)) * (18, 4, 4, 3)
    background = 120 + sum(a * np.cos(np.pi * (u * x + v * y) + p) for a, u, v, p in waves)
    seconds = np.arange(start, SECONDS, 1 / RATE)[:, None, None]
    pictures = np.repeat(background[None], len(seconds), 0)
    for size, light in ((0.16, 70.0), (0.1, -80.0), (0.08, 90.0)):
        a, b, c, d = act.uniform(0.4, 1.6, 4), act.uniform(0, 6.3, 4), act.uniform(0.05, 0.16, 4), act.normal(0, 1, 2)
        path = [0.5 + sum(c[k] * np.sin(2 * np.pi * a[k] * seconds + b[k]) for k in pair) for pair in ((0, 1), (2, 3))]
        dx, dy = x - path[0] - d[0] / 20, y - path[1] - d[1] / 20
        pictures = pictures + light * np.exp(-(dx**2 + dy**2) / size**2)
    return np.asarray(pictures)


def _megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print one line per size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hashes", type=int, nargs="*", default=list(SIZES))
    parser.add_argument("--sample", type=int, default=SAMPLE, help="copies, and as many others, that are searched for")
    given = parser.parse_args()
    columns = ("hashes", "index, s", "grown, MB", "search, ms (median, max)", "verify, ms a pair", "copies met")
    columns += ("found", "false merges", "peak, MB")
    table = Table(*columns, title="duplicates among made clips", title_justify="left")
    for size in given.hashes:
        c = measure(size, given.sample)
        search = f"{1e3 * np.median(c.search):.2f}, {1e3 * max(c.search):.1f}"
        verify = f"{1e3 * np.mean(c.verify or [0]):.1f}"
        met, found = f"{c.met} of {c.planted}", f"{c.found} of {c.planted}"
        wrong = f"{c.wrong} of {c.pairs} pairs"
        numbers = (f"{c.hashes:,}", f"{c.build:.2f}", f"{c.megabytes:.0f}", search, verify, met, found, wrong)
        table.add_row(*numbers, f"{_megabytes():.0f}")
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
