"""Build clips from pictures for the tests of duplicates, without the clips stage."""

from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from opendimo.pipelines.duplicates.fingerprint import Fingerprint
from opendimo.pipelines.duplicates.stage import DuplicatesConfig, DuplicatesStage, plan
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.media import video
from opendimo.storage_schemas.rows import Row
from tests.pipelines.test_quality import clip as clip_row

Images = np.ndarray  # [T, H, W, 3]


def pictures(path: Path, frames: int, short_side: int = 120) -> Images:
    """Return the first frames of a video, scaled down."""
    images = []
    for image in islice(video.frames(path), frames):
        scale = short_side / min(image.shape[:2])
        width, height = (round(side * scale) // 2 * 2 for side in image.shape[1::-1])
        images.append(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))
    return np.stack(images)


def encoded(images: Images, fps: float, crf: int = 32) -> Images:
    """Encode and decode pictures; sizes are rounded down to even numbers."""
    height, width = (side // 2 * 2 for side in images.shape[1:3])
    cut = (np.ascontiguousarray(image[:height, :width]) for image in images)
    return video.decode(video.encode(cut, Fraction(fps).limit_denominator(1001), crf=crf))


def scaled(images: Images, width: int, height: int) -> Images:
    """Resize pictures."""
    return np.stack([cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA) for image in images])


def cropped(images: Images, top: float, bottom: float, left: float, right: float) -> Images:
    """Crop pictures by these shares of height and width."""
    height, width = images.shape[1:3]
    return images[
        :, round(height * top) : round(height * (1 - bottom)), round(width * left) : round(width * (1 - right))
    ]


def boxed(images: Images, share: float) -> Images:
    """Add black bars above and below, each with this share of the height."""
    bar = round(images.shape[1] * share)
    return np.pad(images, ((0, 0), (bar, bar), (0, 0), (0, 0)))


def clip(name: str, images: Images, fps: float, **columns: Any) -> dict[str, list[Row]]:
    """Return the rows of a clip that covers its whole source."""
    fingerprint = Fingerprint(fps)
    for image in images:
        fingerprint.add(np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8))
    rate = Fraction(fps).limit_denominator(1001)
    facts = {
        "source_id": f"source {name}", "capture_id": f"capture {name}", "video_sha256": f"bytes {name}", "name": name,
        "start_frame": 0, "end_frame": len(images), "frames": len(images), "fps_num": rate.numerator,
        "fps_den": rate.denominator, "source_width": images.shape[2], "source_height": images.shape[1],
        "work_key": f"cut {name}",
    }  # fmt: skip
    row = clip_row(name, **(facts | columns))
    return {"clips": [row], "fingerprints": [{"clip_id": name, "work_key": "print", **fingerprint.columns()}]}


def add(lake: Lake, clips: list[dict[str, list[Row]]], run: str = "clips") -> None:
    """Append clips to a lake."""
    tables = ("clips", "fingerprints")
    lake.append(run, {name: [row for rows in clips for row in rows[name]] for name in tables})


def compare(lake: Lake, run: str = "compare", config: DuplicatesConfig | None = None) -> list[Row]:
    """Run the stage's open work; return all rows of `duplicates` that name another clip."""
    stage = DuplicatesStage(lake.uri, config)
    done = set(lake.column("duplicates", "work_key").to_pylist())
    works = [work for work in plan(lake, stage).all() if work.key not in done]
    outcome = stage.run(works)
    outcome.check(works)
    assert not outcome.rejects, outcome.rejects
    lake.append(run, outcome.rows)
    return lake.read("duplicates", where="other_clip_id IS NOT NULL")
