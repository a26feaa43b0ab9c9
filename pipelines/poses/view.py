"""The camera of a clip, as far as it is known; projects, distorts and undistorts points."""

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.poses.between import cameras_at, linear_at
from opendimo.storage_schemas.conventions import assumed_intrinsics, project, transform

Array = NDArray[np.floating]


@dataclass(frozen=True)
class View:
    """Camera of a clip: `K` [T, 3, 3] (assumed if the clip has none), `world_to_camera` [T, 3, 4] in metres or None (if
    unknown or not metric), `distortion` (OpenCV coefficients, may be empty)."""

    width: int
    height: int
    fps: float
    K: Array
    world_to_camera: Array | None
    distortion: Array

    @property
    def calibrated(self) -> bool:
        """Whether both the intrinsics and metric extrinsics are known."""
        return self.world_to_camera is not None

    def undistorted(self, pixels: Array) -> Array:
        """Undistort pixels of the clip [T, P, 2] to pixels of a pinhole camera with the same `K`."""
        if not len(self.distortion):
            return np.asarray(pixels, np.float64)
        return np.stack(
            [
                cv2.undistortPoints(p[:, None].astype(np.float64), k, self.distortion, P=k)[:, 0]
                for p, k in zip(pixels, self.K.astype(np.float64), strict=True)
            ]
        )

    def pixels(self, points_camera: Array) -> Array:
        """Project points in the camera frame [T, P, 3] to pixels of the clip [T, P, 2], with distortion."""
        if not len(self.distortion):
            return project(points_camera, self.K)
        zero = np.zeros(3)
        return np.stack(
            [
                cv2.projectPoints(p.astype(np.float64), zero, zero, k, self.distortion)[0][:, 0]
                for p, k in zip(points_camera, self.K.astype(np.float64), strict=True)
            ]
        )

    def in_camera(self, points_world: Array) -> Array:
        """Transform world points [T, P, 3] to the camera frame."""
        assert self.world_to_camera is not None
        return transform(points_world, self.world_to_camera)

    def at(self, times: Array) -> "View":
        """Interpolate the view at `times` [N] in frames of the clip: position and `K` linearly, rotation with slerp."""
        cameras = None if self.world_to_camera is None else cameras_at(self.world_to_camera, times)
        return replace(self, K=linear_at(self.K, times), world_to_camera=cameras)

    def inside(self, pixels: Array) -> NDArray[np.bool_]:
        """Return which pixels [..., 2] lie inside the image."""
        x, y = pixels[..., 0], pixels[..., 1]
        return (x >= 0) & (x < self.width) & (y >= 0) & (y < self.height)


def view_of(clip: dict[str, Any]) -> View:
    """Return the view of a row of `clips`; a single frame of cameras is used for all frames."""
    frames, width, height = clip["frames"], clip["width"], clip["height"]
    if (K := clip.get("K")) is None:
        K = assumed_intrinsics(width, height)[None]
    world = clip.get("world_to_camera") if clip.get("K") is not None and clip.get("metric") else None
    return View(
        width,
        height,
        float(Fraction(clip["fps_num"], clip["fps_den"])),
        np.broadcast_to(K, (frames, 3, 3)).astype(np.float64),
        None if world is None else np.broadcast_to(world, (frames, 3, 4)).astype(np.float64),
        np.asarray(clip.get("distortion") or [], np.float64),
    )
