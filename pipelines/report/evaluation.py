"""Show an evaluation, its tables and some pairs side by side, in the report of a lake or on a separate page."""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from opendimo.pipelines.report.environment import environment
from opendimo.pipelines.report.media import jpeg
from opendimo.storage_schemas.ids import sha256_file
from opendimo.storage_schemas.lake.files import read_json, write_bytes
from opendimo.storage_schemas.media import video
from opendimo.storage_schemas.rows import Row

MOST_CASES = 6
SIDE = 240  # maximum short side of videos shown, pixels


class Shelf(Protocol):
    """Storage of pictures and videos: files next to the page (`Media`), or embedded in the page (`Embedded`)."""

    def picture(self, content: object, make: Callable[[], NDArray[np.uint8]]) -> str:
        """Store a picture and return its link."""

    def video(self, content: object, make: Callable[[], bytes]) -> str:
        """Store a video and return its link."""


class Embedded:
    """Embeds pictures and videos in the page as data URIs."""

    def picture(self, content: object, make: Callable[[], NDArray[np.uint8]]) -> str:
        """Return the picture as a data URI."""
        return f"data:image/jpeg;base64,{base64.b64encode(jpeg(make())).decode()}"

    def video(self, content: object, make: Callable[[], bytes]) -> str:
        """Return the video as a data URI."""
        return f"data:video/mp4;base64,{base64.b64encode(make()).decode()}"


@dataclass(frozen=True)
class Figure:
    """A picture or video with its name and its metrics as text."""

    name: str
    link: str
    is_video: bool
    numbers: str


@dataclass(frozen=True)
class Shown:
    """An evaluation: the content of `evaluation.json` (`result`), and some `cases` with their figures."""

    result: Row
    cases: list[tuple[Row, list[Figure]]]


def read_evaluation(folder: Path, shelf: Shelf) -> Shown:
    """Read what `dimo evaluate` wrote into `folder`. Raises `ValueError` if there is no evaluation."""
    result = read_json(folder / "evaluation.json")
    if not isinstance(result, dict):
        raise ValueError(f"{folder} holds no evaluation.json: run `dimo evaluate --out {folder}` first")
    return Shown(result, [(case, _figures(case, result, folder, shelf)) for case in some_cases(result["cases"])])


def write_evaluation_page(folder: Path) -> Path:
    """Write FOLDER/evaluation.html, a self-contained page, and return its path."""
    shown = read_evaluation(folder, Embedded())
    page = environment().get_template("evaluation.html.j2").render(shown=shown)
    write_bytes(folder / "evaluation.html", page.encode(errors="replace"))
    return folder / "evaluation.html"


def some_cases(cases: list[Row]) -> list[Row]:
    """Choose a few cases of different kinds and gaps, sorted by kind and gap."""
    count_in_group: dict[tuple[str, str], int] = {}
    ranked: list[tuple[int, int, Row]] = []
    for case in cases:
        group = (case["kind"], case["gap"])
        count_in_group[group] = count_in_group.get(group, 0) + 1
        ranked.append((count_in_group[group], len(ranked), case))
    chosen = sorted(ranked, key=lambda entry: entry[:2])[:MOST_CASES]
    return sorted((case for _, _, case in chosen), key=lambda case: (case["kind"], case["gap_degrees"] or 0.0))


def _figures(case: Row, result: Row, folder: Path, shelf: Shelf) -> list[Figure]:
    """Return figures of the reference, the driver, the output of each system, and the ground truth."""
    name = case["case"]
    outputs = [(s["name"], folder / s["folder"], _numbers(s, name)) for s in result["systems"] if "folder" in s]
    baselines = [entry for entry in outputs if entry[0] == "copy_reference"]
    models = [entry for entry in outputs if entry not in baselines]
    videos = [("driver", folder / "driver", ""), *models, ("truth", folder / "truth", ""), *baselines]
    existing = [(title, path, text) for title, parent, text in videos if (path := parent / f"{name}.mp4").is_file()]
    figures = [_video_figure(title, path, text, shelf) for title, path, text in existing]
    still = folder / "reference" / f"{name}.png"
    picture = shelf.picture(["evaluation", sha256_file(still)], lambda: np.asarray(Image.open(still).convert("RGB")))
    return [Figure("reference", picture, False, ""), *figures]


def _video_figure(title: str, path: Path, numbers: str, shelf: Shelf) -> Figure:
    link = shelf.video(["evaluation", sha256_file(path)], lambda: _small(path))
    return Figure(title.replace("_", " "), link, True, numbers)


def _numbers(system: Row, case: str) -> str:
    """Return the metrics of one clip as short text."""
    row: Row = next((row for row in system["clips"] if row["case"] == case), {})
    parts = [f"SSIM {row['ssim']:.3f}"] if isinstance(row.get("ssim"), float) else []
    psnr = row.get("psnr")
    parts += [f"PSNR {psnr:.1f} dB"] if isinstance(psnr, float) else [f"PSNR {psnr}"] if psnr else []
    error = row.get("pose_error")
    parts += [f"pose off by {100 * error:.0f} % of height"] if isinstance(error, float) else []
    return ", ".join(parts)


def _small(path: Path) -> bytes:
    """Return the video, scaled down to a short side of at most `SIDE`."""
    info = video.probe(path)
    scale = SIDE / min(info.width, info.height)
    if scale >= 1:
        return path.read_bytes()
    size = max(2, round(info.width * scale / 2) * 2), max(2, round(info.height * scale / 2) * 2)
    return video.encode((video.resize(frame, size) for frame in video.frames(path)), Fraction(info.fps), crf=26)
