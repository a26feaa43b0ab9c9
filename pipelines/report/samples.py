"""Show sample videos of a training run: the same pairs at several steps."""

import re
from pathlib import Path

from opendimo.pipelines.report.media import Media
from opendimo.storage_schemas.ids import sha256_file

NAME = re.compile(r"step-(\d+)\.mp4")
MOST = 4


def read_samples(training: Path, media: Media) -> list[tuple[int, str]]:
    """Return (step, link) of at most `MOST` videos of the run in the folder `training`, evenly spaced, newest last."""
    found = {
        int(match[1]): path for path in (training / "samples").glob("*.mp4") if (match := NAME.fullmatch(path.name))
    }
    steps = sorted(found)
    if len(steps) > MOST:
        steps = [steps[round(k * (len(steps) - 1) / (MOST - 1))] for k in range(MOST)]
    return [(step, media.video(["sample", sha256_file(found[step])], found[step].read_bytes)) for step in steps]
