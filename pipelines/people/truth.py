"""Track the people of a render from its ground-truth joints and cameras, without a detector."""

from bisect import bisect_left
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.people.boxes import Box, Tracks
from opendimo.pipelines.people.follow import Followed
from opendimo.pipelines.people.visibility import of_joints
from opendimo.storage_schemas.conventions import project, transform

MARGIN = 0.1  # share of the longer side added on each side: joints lie inside the body, the topmost one at the ears
NEAR = 0.05  # metres; points closer to the camera plane are not visible
MIN_VISIBLE = 0.3  # minimum share of the joints inside the frame


def true_tracks(
    joints: NDArray[np.float32],
    world_to_camera: NDArray[np.float32],
    K: NDArray[np.float32],
    size: tuple[int, int],
) -> Tracks:
    """Return boxes [P, T, 4] around the projected joints, enlarged and clipped to the frame.

    `joints` [P, T, J, 3] metres, `world_to_camera` [T, 3, 4], `K` [T, 3, 3] of frames of `size` (width, height). NaN
    where fewer than a third of the joints are inside the frame.
    """
    tracks = np.full((*joints.shape[:2], 4), np.nan, np.float32)
    limit = np.array(size, np.float32)
    for track, pixels in zip(tracks, true_pixels(joints, world_to_camera, K), strict=True):
        with np.errstate(invalid="ignore"):
            inside = ((pixels >= 0) & (pixels < limit)).all(-1)  # [T, J]
        visible = inside.mean(1) >= MIN_VISIBLE
        low, high = np.nanmin(pixels[visible], axis=1), np.nanmax(pixels[visible], axis=1)  # [t, 2]
        margin = MARGIN * (high - low).max(1, keepdims=True)
        track[visible] = np.concatenate([np.clip(low - margin, 0, limit), np.clip(high + margin, 0, limit)], axis=1)
    return tracks


def true_pixels(
    joints: NDArray[np.float32], world_to_camera: NDArray[np.float32], K: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Project `joints` [P, T, J, 3] to pixels [P, T, J, 2], NaN behind the camera.

    `world_to_camera` [T, 3, 4], `K` [T, 3, 3].
    """
    pixels = np.full((*joints.shape[:3], 2), np.nan, np.float32)
    for person, body in enumerate(joints):
        camera = transform(body, world_to_camera)  # [T, J, 3]
        with np.errstate(divide="ignore", invalid="ignore"):
            pixels[person] = np.where((camera[..., 2] > NEAR)[..., None], project(camera, K), np.nan)
    return pixels


class TruePeople:
    """Ground-truth tracker of a render, with the interface of `follow.Follower`. `tracks` [P, T, 4] and `pixels` of the
    joints [P, T, J, 2] cover the whole source, in frames of `size` (width, height)."""

    def __init__(self, tracks: Tracks, pixels: NDArray[np.float32], size: tuple[int, int]) -> None:
        self._tracks, self._pixels, self._size = tracks, pixels, size
        self._looks: list[int] = []

    def look(self, frame: int, image: Callable[[], NDArray[np.uint8]], decided: Callable[[list[Box]], None]) -> None:
        """Tell `decided` the boxes of the people in frame number `frame` of the source; the image is not read."""
        self._looks.append(frame)
        decided([box for box in self._tracks[:, frame] if np.isfinite(box[0])])

    def over(self, span: range) -> Followed:
        """Return all people in the frames of `span`."""
        looks = [frame for frame in self._looks if frame in span]
        seen = [
            [of_joints(pixels[k], self._size) for k in looks if np.isfinite(track[k, 0])]
            for track, pixels in zip(self._tracks, self._pixels, strict=True)
        ]
        return Followed(self._tracks[:, span.start : span.stop], seen)

    def forget(self, before: int) -> None:
        """Drop state that no span starting at frame `before` or later needs."""
        del self._looks[: bisect_left(self._looks, before)]
