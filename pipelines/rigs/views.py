"""The views of one capture: their cameras, and which of their frames are sampled."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.sources.lens import undistort_points
from opendimo.storage_schemas.media import video
from opendimo.storage_schemas.rows import Row

Array = NDArray[np.float64]


@dataclass(frozen=True)
class RigView:
    """A view of a rig: `K` [T or 1, 3, 3] in pixels of the source, `world_to_camera` [T or 1, 3, 4], and `times` [T] of
    its frames in seconds if known."""

    name: str
    path: str
    rotation: int
    size: tuple[int, int]
    fps: float
    frames: int | None
    K: Array
    world_to_camera: Array
    distortion: list[float]
    metric: bool
    times: Array | None
    board: str | None

    @classmethod
    def of(cls, source: Row) -> "RigView":
        """Return the view of a row of `sources`. Raises `DataError` if it has no camera."""
        if source.get("K") is None or source.get("world_to_camera") is None:
            raise DataError(f"{source['name']}: the view has no camera, so it cannot be measured: add its calibration")
        times, references = source.get("timestamps"), source.get("references") or []
        return cls(
            source["view"],
            source["local_path"],
            source["rotation"],
            (source["width"], source["height"]),
            float(Fraction(source["fps_num"], source["fps_den"])),
            source["frames"],
            np.asarray(source["K"], np.float64),
            np.asarray(source["world_to_camera"], np.float64),
            list(source.get("distortion") or []),
            bool(source.get("metric")),
            None if times is None else np.array(times) / 1e9,
            next((r["path"] for r in references if r["kind"] == "board"), None),
        )

    def lenses(self, frames: NDArray[np.int64]) -> Array:
        """Return `K` [F, 3, 3] at these frames."""
        return self.K[np.clip(frames, 0, len(self.K) - 1)]

    def poses(self, frames: NDArray[np.int64]) -> Array:
        """Return `world_to_camera` [F, 3, 4] at these frames."""
        return self.world_to_camera[np.clip(frames, 0, len(self.world_to_camera) - 1)]

    def pinhole(self, points: Array, frames: NDArray[np.int64]) -> Array:
        """Undistort points [F, P, 3] (x, y, confidence) of the video to a pinhole camera with the same `K`."""
        undistorted = points.copy()
        for k, (K, distorted) in enumerate(zip(self.lenses(frames), points, strict=True)):
            undistorted[k, :, :2] = undistort_points(distorted[:, :2], K, self.distortion)
        return undistorted


@dataclass(frozen=True)
class Sampling:
    """Which part of a video is analysed: `blocks` blocks of `block` consecutive frames, within the first `seconds`."""

    blocks: int = 2
    block: int = 48
    seconds: float = 20.0

    def moments(self, views: list[RigView], shifts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the sampled moments [B, L] of the rig's clock, spread evenly over the time that all views show.

        View k shows moment m in its frame m + `shifts`[k]. If the shifted views overlap too little, the shifts are
        ignored. Raises `DataError` if the videos are too short.
        """
        ends = [view.frames - shift for view, shift in zip(views, shifts, strict=True) if view.frames]
        first = int(max(-shifts))
        limit = int(min([self.seconds * views[0].fps, *(end - first for end in ends)]))
        length = min(self.block, limit // self.blocks)
        if length < 2 and shifts.any():
            return self.moments(views, np.zeros_like(shifts))
        if length < 2:
            raise DataError(f"the videos have {limit} frames: too few to compare the views")
        starts = first + np.linspace(0, limit - length, self.blocks).round().astype(np.int64)
        return np.asarray(starts[:, None] + np.arange(length), np.int64)


def images(view: RigView, wanted: NDArray[np.int64]) -> Iterator[tuple[int, int, NDArray[np.uint8]]]:
    """Yield (block, index in the block, image [H, W, 3]) of the frames `wanted` [B, L] that exist.

    Frames come in order, in one pass over the video.
    """
    indices_of_frame: dict[int, list[tuple[int, int]]] = {}
    for (b, k), frame in np.ndenumerate(wanted):
        if 0 <= frame < (view.frames or frame + 1):
            indices_of_frame.setdefault(int(frame), []).append((b, k))
    if not indices_of_frame:
        return
    last = max(indices_of_frame)
    try:
        for number, image in enumerate(video.frames(view.path, rotation=view.rotation)):
            for b, k in indices_of_frame.get(number, []):
                yield b, k, image
            if number == last:
                return
    except FileNotFoundError:
        raise
    except ValueError as error:
        raise DataError(f"{view.path}: {error}") from error
