"""What a lake costs as it grows: plan, batch, release, diff, status at 100K and 1M clips (10M: `--rows 10_000_000`).

Every operation runs in a process of its own, the reading ones several times; files are warm where the machine has
memory for them. Counts are checked, times are not. 10M clips need about 15 GB of disk.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROWS = [100_000, 1_000_000]
ORDER = (
    *("make", "no_op", "release", "opening", "second_pairs", "release", "difference"),
    *("new_clips", "new_captions", "status"),
)
AGAIN = ("no_op", "opening", "difference", "status")  # these change nothing


@dataclass
class Cost:
    """Seconds of each repetition of a step, and megabytes of its process: at its start and at most."""

    seconds: list[float] = field(default_factory=list)
    start_mb: float = 0.0
    peak_mb: float = 0.0

    @property
    def median(self) -> float:
        """Of the seconds."""
        return statistics.median(self.seconds)


def main() -> None:
    """All sizes, then how flat the cost per row is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS, help="sizes of the lake in clips")
    parser.add_argument("--repeats", type=int, default=3, help="of what changes nothing")
    parser.add_argument("--folder", type=Path, help="where the lakes are written for a while; else a temporary one")
    given = parser.parse_args()
    costs = {}
    for clips in sorted(given.rows):
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            costs[clips] = measure(Path(folder) / "lake", clips, given.repeats)
        show(clips, costs[clips])
    if len(costs) > 1:
        compare(costs)


def measure(lake: Path, clips: int, repeats: int) -> dict[str, Cost]:
    """Costs by step, in order."""
    costs: dict[str, Cost] = {}
    for operation in ORDER:
        for _ in range(repeats if operation in AGAIN else 1):
            command = [sys.executable, "-m", "tests.benchmarks.lake_operations", operation, str(lake), str(clips)]
            said = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
            for step, seconds in said["steps"].items():
                cost = costs.setdefault(step, Cost())
                cost.seconds.append(seconds)
                cost.start_mb, cost.peak_mb = (max(getattr(cost, name), said[name]) for name in ("start_mb", "peak_mb"))
    return costs


def show(clips: int, costs: dict[str, Cost]) -> None:
    """One size."""
    columns = ("seconds: median", "min", "max", "microseconds per clip", "MB at start", "MB at most")
    table = Table("", *columns, title=f"lake of {clips:,} clips", title_justify="left")
    for step, cost in costs.items():
        numbers = (cost.median, min(cost.seconds), max(cost.seconds))
        per_clip = f"{1e6 * cost.median / clips:.2f}"
        table.add_row(step, *(f"{n:.3f}" for n in numbers), per_clip, f"{cost.start_mb:.0f}", f"{cost.peak_mb:.0f}")
    Console(width=140).print(table)


def compare(costs: dict[int, dict[str, Cost]]) -> None:
    """Microseconds per clip at each size, and the largest lake against the smallest: 1 is flat."""
    sizes = list(costs)
    columns = [f"{clips:,}" for clips in sizes]
    table = Table("microseconds per clip", *columns, "largest / smallest", "MB more at most", title_justify="left")
    for step in costs[sizes[0]]:
        per_clip = [1e6 * costs[clips][step].median / clips for clips in sizes]
        more = costs[sizes[-1]][step].peak_mb - costs[sizes[0]][step].peak_mb
        table.add_row(step, *(f"{n:.2f}" for n in per_clip), f"{per_clip[-1] / per_clip[0]:.2f}", f"{more:.0f}")
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
