"""The metrics of a run: metrics.jsonl, one JSON object per line for every step and a few events, and TensorBoard.

After a crash the files may be ahead of the newest checkpoint. Resuming truncates metrics.jsonl to its length when that
checkpoint was saved, and hides later steps from TensorBoard, so that every step is there exactly once.
"""

import io
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

BOARD = "tensorboard"
GIF_FRAMES, GIF_SIDE, GIF_MS = 32, 640, 125
"""Greatest number of frames and side in pixels of a GIF, and the time that it shows a frame, in milliseconds."""


class MetricsLog:
    """Append records to OUT/metrics.jsonl, which is first truncated to `keep_bytes`, and to TensorBoard's files.

    `step`: number of the last step that is kept. `wandb_project`: also send all numbers and sample videos to this
    project of Weights & Biases, in a run that resumes go on with. Raises `ValueError` if its package is missing.
    """

    def __init__(self, out: Path, keep_bytes: int = 0, step: int = 0, wandb_project: str | None = None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        path = out / "metrics.jsonl"
        path.touch()
        os.truncate(path, keep_bytes)
        self._stream = path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(out / BOARD), purge_step=step + 1)
        self._wandb = None if wandb_project is None else wandb_run(out, wandb_project)

    def write(self, record: dict[str, Any]) -> None:
        """Append one record and flush it."""
        self._stream.write(json.dumps(record) + "\n")
        self._stream.flush()
        kind = record.get("event", "step")
        if kind != "start":
            numbers = {f"{kind}/{name}": value for name, value in scalars(record)}
            for name, value in numbers.items():
                self._board.add_scalar(name, value, record["step"])
            if self._wandb is not None:
                self._wandb.log(numbers, step=record["step"])

    def video(self, name: str, file: Path, step: int) -> None:
        """Show a video file: in TensorBoard, whose images may be animated, as a small GIF."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        from opendimo.storage_schemas.media.video import decode

        gif, width, height = animated(decode(file))
        image = Summary.Image(width=width, height=height, colorspace=3, encoded_image_string=gif)
        summary = Summary(value=[Summary.Value(tag=name, image=image)])
        self._board._get_file_writer().add_summary(summary, step)  # its public method needs another encoder
        if self._wandb is not None:
            import wandb

            self._wandb.log({name: wandb.Video(str(file), format="mp4")}, step=step)

    def flush(self) -> int:
        """Write what is buffered to disk, before a checkpoint names it; return the length of metrics.jsonl."""
        self._board.flush()
        return self._stream.tell()

    def close(self) -> None:
        """Close the files."""
        self._board.close()
        self._stream.close()
        if self._wandb is not None:
            self._wandb.finish()


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
