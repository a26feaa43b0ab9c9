"""Cuts found and false cuts, on 200 joins and 200 disturbances made from real clips, beside PySceneDetect's detectors.

A cut counts as found within a frame. Precision is that of all cuts reported in both sets. Jumps within one take are
counted apart. PySceneDetect's detectors run with their defaults, which include a shortest scene of 15 frames.
"""

import argparse
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table
from scenedetect.detectors import AdaptiveDetector, ContentDetector, HashDetector, HistogramDetector
from scenedetect.scene_detector import SceneDetector

from opendimo.pipelines.clips.frame import Frame
from opendimo.pipelines.clips.shots import ShotsConfig, by_content
from tests.benchmarks.made_shots import DISTURBANCES, JOINS, JUMPS, Clip, Made, made_set, read_takes

Detect = Callable[[Clip], list[int]]
TOLERANCE = 1  # frames


def ours(frames: Clip) -> list[int]:
    """Return the frames at which `by_content` begins shots."""
    stream = (Frame(number, None, image) for number, image in enumerate(frames))  # type: ignore[arg-type]
    return [frame.number for begins, frame in by_content(stream, ShotsConfig()) if begins]


def theirs(kind: type[SceneDetector]) -> Detect:
    """Return a function that detects cuts with a detector of PySceneDetect."""

    def detect(frames: Clip) -> list[int]:
        detector = kind()
        cuts = [cut for number, image in enumerate(frames) for cut in detector.process_frame(number, image)]
        return sorted({*cuts, *detector.post_process(len(frames) - 1)})

    return detect


WAYS: dict[str, Detect] = {
    "ours": ours,
    **{kind.__name__: theirs(kind) for kind in (AdaptiveDetector, ContentDetector, HashDetector, HistogramDetector)},
}


def judged(made: Made, cuts: list[int]) -> tuple[bool, int]:
    """Return whether the join was found, and the number of false cuts."""
    true = [any(abs(cut - at) <= TOLERANCE for at in made.cuts) for cut in cuts]
    return any(true), true.count(False)


def main() -> None:
    """Print precision and recall of every way, then what each kind of video gave."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.shots", description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="joins, and as many disturbances and jumps")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    data = Path(os.environ.get("OPENDIMO_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data").resolve()
    if not data.is_dir():
        raise SystemExit("the real clips are needed: set OPENDIMO_TEST_DATA")
    takes = read_takes(data)
    groups = {name: list(made_set(kinds, given.count, takes, given.seed))
              for name, kinds in (("joins", JOINS), ("disturbances", DISTURBANCES), ("jumps", JUMPS))}  # fmt: skip
    total = Table("", "precision", "recall", "recall of jumps", "ms a frame", title=f"{given.count} of each")
    kinds = Table("", *WAYS, title="joins and jumps: found; disturbances: false cuts")
    found: dict[str, Counter[str]] = {}
    false: dict[str, Counter[str]] = {}
    for way, detect in WAYS.items():
        found[way], false[way] = Counter(), Counter()
        started = time.perf_counter()
        for made in (made for group in groups.values() for made in group):
            hit, wrong = judged(made, detect(made.frames))
            found[way][made.kind] += hit
            false[way][made.kind] += wrong
        spent = time.perf_counter() - started
        frames = sum(len(made.frames) for group in groups.values() for made in group)
        hits = sum(found[way][kind] for kind in JOINS)
        wrong = sum(false[way][kind] for kind in [*JOINS, *DISTURBANCES])
        jumps = sum(found[way].values()) - hits
        shares = (hits / max(1, hits + wrong), hits / given.count, jumps / given.count)
        total.add_row(way, *(f"{share:.3f}" for share in shares), f"{1e3 * spent / frames:.2f}")
    for name, group in groups.items():
        for kind, count in Counter(made.kind for made in group).items():
            told = false if name == "disturbances" else found
            kinds.add_row(f"{kind} ({count})", *(str(told[way][kind]) for way in WAYS))
    console = Console(width=150)
    console.print(total)
    console.print(kinds)


if __name__ == "__main__":
    main()
