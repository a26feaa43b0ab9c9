"""Camera parameters and ground-truth people of a source, scaled to clip size."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.people.truth import TruePeople, true_pixels, true_tracks
from opendimo.storage_schemas.conventions import scale_intrinsics
from opendimo.storage_schemas.rows import Row

Size = tuple[int, int]  # width, height


@dataclass(frozen=True)
class Cameras:
    """Camera parameters of a source at clip size.

    `frames`: number of frames that the cameras or the ground truth cover; None if they hold for any number.
    """

    world_to_camera: NDArray[np.float32] | None  # [T or 1, 3, 4]
    K: NDArray[np.float32] | None  # [T or 1, 3, 3]
    distortion: list[float] | None
    metric: bool | None
    frames: int | None

    @classmethod
    def of(cls, source: Row, size: Size) -> "Cameras":
        """Read the cameras of a source row and scale K to `size`.

        Raises `DataError` if the cameras and the ground truth cover different numbers of frames.
        """
        K = source.get("K")
        if K is not None:
            K = scale_intrinsics(K, size[0] / source["width"], size[1] / source["height"]).astype(np.float32)
        pose = source.get("world_to_camera")
        counts = {len(a) for a in (pose, K) if a is not None}
        if source.get("truth_joints") is not None:
            counts.add(source["truth_joints"].shape[1])
        counts -= {1}
        if len(counts) > 1:
            raise DataError(
                f"{source['local_path']}: cameras and truth have different numbers of frames: {sorted(counts)}"
            )
        return cls(pose, K, source.get("distortion"), source.get("metric"), next(iter(counts), None))

    def columns(self, start: int, end: int) -> Row:
        """Return the camera columns of a clip with frames [start, end)."""
        return {
            "world_to_camera": _per_frame(self.world_to_camera, start, end),
            "K": _per_frame(self.K, start, end),
            "distortion": self.distortion,
            "metric": self.metric,
        }


def true_people(source: Row, cameras: Cameras, size: Size) -> TruePeople | None:
    """Return all people of a render in pixels of the clip; None if the source has no ground truth.

    Raises `DataError` if the source has true joints but no camera.
    """
    joints = source.get("truth_joints")
    if joints is None:
        return None
    frames = joints.shape[1]
    pose, K = _per_frame(cameras.world_to_camera, 0, frames), _per_frame(cameras.K, 0, frames)
    if pose is None or K is None:
        raise DataError(f"{source['local_path']}: true joints need a camera, but this source has none")
    return TruePeople(true_tracks(joints, pose, K, size), true_pixels(joints, pose, K), size)


def _per_frame(values: NDArray[np.float32] | None, start: int, end: int) -> NDArray[np.float32] | None:
    """Return frames [start, end) of `values` [T or 1, ...]; a single value is repeated for all frames."""
    if values is None:
        return None
    return np.repeat(values, end - start, axis=0) if len(values) == 1 else values[start:end]
