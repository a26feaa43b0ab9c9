"""The metrics of a run: metrics.jsonl, one JSON object per line for every step and a few events, and TensorBoard.

After a crash the files may be ahead of the newest checkpoint. Resuming truncates metrics.jsonl to its length when that
checkpoint was saved, and hides later steps from TensorBoard, so that every step is there exactly once. While the disk
is full, lines wait in memory, and TensorBoard's file is given up: a new one gets the same steps once there is space.
"""

import io
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from opendimo.training.full_disk import HeldLines, is_full

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

logger = logging.getLogger(__name__)

BOARD = "tensorboard"
GIF_FRAMES, GIF_SIDE, GIF_MS = 32, 640, 125
"""Greatest number of frames and side in pixels of a GIF, and the time that it shows a frame, in milliseconds."""


class MetricsLog:
    """Append records to OUT/metrics.jsonl, which is first truncated to `keep_bytes`, and to TensorBoard's files.

    `step`: number of the last step that is kept. `wandb_project`: also send all numbers and sample videos to this
    project of Weights & Biases, in a run that resumes go on with. Raises `ValueError` if its package is missing.
    """

    def __init__(self, out: Path, keep_bytes: int = 0, step: int = 0, wandb_project: str | None = None) -> None:
        self._lines = HeldLines(out / "metrics.jsonl", keep_bytes)
        self._board = Board(out / BOARD, step)
        self._wandb = None if wandb_project is None else wandb_run(out, wandb_project)

    def write(self, record: dict[str, Any]) -> None:
        """Append one record and flush it."""
        self._lines.append(json.dumps(record))
        kind = record.get("event", "step")
        if kind != "start":
            numbers = {f"{kind}/{name}": value for name, value in scalars(record)}
            self._board.add(record["step"], numbers)
            if self._wandb is not None:
                self._wandb.log(numbers, step=record["step"])

    def video(self, name: str, file: Path, step: int) -> None:
        """Show a video file: in TensorBoard, whose images may be animated, as a small GIF."""
        from opendimo.storage_schemas.media.video import decode

        self._board.add_gif(step, name, *animated(decode(file)))
        if self._wandb is not None:
            import wandb

            self._wandb.log({name: wandb.Video(str(file), format="mp4")}, step=step)

    def flush(self) -> int:
        """Write what TensorBoard buffers; return the length of metrics.jsonl, including lines that a full disk holds
        back."""
        self._board.flush()
        return self._lines.length

    def write_held(self) -> None:
        """Write the lines that a full disk held back, before a checkpoint names them. Raises `OSError` if it fails."""
        self._lines.write()

    def close(self) -> None:
        """Close the files."""
        self._board.close()
        self._lines.close()
        if self._wandb is not None:
            self._wandb.finish()


class Board:
    """TensorBoard's files in `folder`, in which steps after `step` are hidden at first.

    Remembers what was added since the last flush. When a full disk ends a file, that and all that follows go into
    another one at a later flush, when there is space.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._folder, self._flushed, self._last = folder, step, step
        self._added: list[Callable[[SummaryWriter], None]] = []
        self._writer: SummaryWriter | None = self._open()

    def add(self, step: int, numbers: Mapping[str, float]) -> None:
        """Add the numbers of a step."""

        def write(writer: "SummaryWriter") -> None:
            for name, value in numbers.items():
                writer.add_scalar(name, value, step)

        self._add(step, write)

    def add_gif(self, step: int, name: str, gif: bytes, width: int, height: int) -> None:
        """Add an animated image."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        image = Summary.Image(width=width, height=height, colorspace=3, encoded_image_string=gif)
        summary = Summary(value=[Summary.Value(tag=name, image=image)])
        # the writer's public method needs another encoder
        self._add(step, lambda writer: writer._get_file_writer().add_summary(summary, step))

    def flush(self) -> None:
        """Write to disk what is buffered. Raises `OSError`, unless the disk is full."""
        with self._giving_up():
            if self._writer is None:
                self._writer = self._open()
                for write in self._added:
                    write(self._writer)
            self._writer.flush()
            self._added.clear()
            self._flushed = self._last

    def close(self) -> None:
        """Flush and close the file."""
        self.flush()
        if self._writer is not None:
            self._writer.close()

    def _open(self) -> "SummaryWriter":
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self._folder), purge_step=self._flushed + 1)

    def _add(self, step: int, write: "Callable[[SummaryWriter], None]") -> None:
        self._last = step
        self._added.append(write)
        if self._writer is not None:
            with self._giving_up():
                write(self._writer)

    @contextmanager
    def _giving_up(self) -> Iterator[None]:
        """Give the file up if the disk is full."""
        try:
            yield
        except OSError as error:
            if not is_full(error):
                raise
            logger.warning("the disk of %s is full: TensorBoard lacks what follows until there is space", self._folder)
            if self._writer is not None:
                with suppress(OSError):
                    self._writer.close()
            self._writer = None


def wandb_run(out: Path, project: str) -> Any:
    """Start the run of the folder `out` in a project of Weights & Biases, or go on with it.

    Its id is in OUT/wandb-id. Raises `ValueError` if the package is missing.
    """
    try:
        import wandb
    except ImportError:
        raise ValueError("wandb_project needs Weights & Biases: pip install 'opendimo[wandb]'") from None
    file = out / "wandb-id"
    if not file.exists():
        file.write_text(uuid4().hex[:12])
    settings = json.loads((out / "config.json").read_text()) if (out / "config.json").exists() else None
    return wandb.init(
        project=project, id=file.read_text(), name=out.name, dir=str(out), resume="allow", config=settings
    )


def animated(frames: NDArray[np.uint8], most_frames: int = GIF_FRAMES, side: int = GIF_SIDE) -> tuple[bytes, int, int]:
    """Return frames [T, H, W, 3] as a GIF of at most `most_frames` frames and `side` pixels, and width and height."""
    from PIL import Image

    chosen = frames[:: -(-len(frames) // most_frames)]
    images = [Image.fromarray(frame) for frame in chosen]
    for image in images:
        image.thumbnail((side, side))
    buffer = io.BytesIO()
    images[0].save(buffer, "GIF", save_all=True, append_images=images[1:], duration=GIF_MS, loop=0)
    return buffer.getvalue(), *images[0].size


def scalars(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield all numbers of a record, also of nested ones, as (name, value); names of nested ones are joined by dots."""
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from scalars(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and name != "step":
            yield prefix + name, float(value)


def gpu_memory() -> dict[str, float]:
    """Return the peak of this process's GPU memory in GiB; empty without a GPU."""
    import torch

    return {"gpu_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2)} if torch.cuda.is_available() else {}


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return all records; skip a last line that a crash left incomplete."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]
