"""People of a render, from its true joints and cameras: no detector, no guess."""

import numpy as np
from numpy.typing import NDArray

from pipelines.people.boxes import Box, Tracks
from storage_schemas.conventions import project, transform

MARGIN = 0.1  # of the longer side, on each side: joints lie inside the body, the topmost one at the ears
NEAR = 0.05  # metres; what is closer to the camera plane is not seen
MIN_VISIBLE = 0.3  # share of the joints inside the frame


def true_tracks(
    joints: NDArray[np.float32],
    world_to_camera: NDArray[np.float32],
    K: NDArray[np.float32],
    size: tuple[int, int],
) -> Tracks:
    """Boxes [P, T, 4] around the projected joints, enlarged and clipped to the frame.

    `joints` [P, T, J, 3] metres, `world_to_camera` [T, 3, 4], `K` [T, 3, 3] of frames of `size` (width, height). NaN
    where less than a third of the joints is inside the frame.
    """
    tracks = np.full((*joints.shape[:2], 4), np.nan, np.float32)
    limit = np.array(size, np.float32)
    for track, body in zip(tracks, joints, strict=True):
        camera = transform(body, world_to_camera)  # [T, J, 3]
        before = camera[..., 2] > NEAR
        with np.errstate(divide="ignore", invalid="ignore"):
            pixels = np.where(before[..., None], project(camera, K), np.nan)  # [T, J, 2]
            inside = ((pixels >= 0) & (pixels < limit)).all(-1)  # [T, J]
        seen = inside.mean(1) >= MIN_VISIBLE
        low, high = np.nanmin(pixels[seen], axis=1), np.nanmax(pixels[seen], axis=1)  # [t, 2]
        margin = MARGIN * (high - low).max(1, keepdims=True)
        track[seen] = np.concatenate([np.clip(low - margin, 0, limit), np.clip(high + margin, 0, limit)], axis=1)
    return tracks


class TruePeople:
    """People of one clip of a render; answers like `follow.Follower`. `tracks` [P, T, 4] are those of the clip."""

    def __init__(self, tracks: Tracks) -> None:
        self._tracks = tracks

    def look(self, frame: int, image: NDArray[np.uint8]) -> list[Box]:
        """Boxes of the people in frame number `frame` of the clip."""
        boxes = self._tracks[:, frame]
        return [box for box in boxes if np.isfinite(box[0])]

    def tracks(self, frames: int) -> Tracks:
        """Boxes [P, frames, 4], NaN where a person is not seen."""
        return self._tracks[:, :frames]
