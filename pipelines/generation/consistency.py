"""Measure whether generated views agree with each other, by triangulating the landmarks that are found in them.

Needs no truth and no other model: if the views show one body, its landmarks have one position in space that projects to
all of them.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.people import track_person
from opendimo.pipelines.poses.landmarker import Landmarker
from opendimo.pipelines.poses.landmarks import BODY
from opendimo.pipelines.poses.triangulation import triangulate

SURE = 0.5
"""Least confidence of a landmark that is triangulated."""
ANY = 1e6
"""Tolerance in pixels of the triangulation: no view is left out, since two of them agree easily about a wrong point."""


@dataclass(frozen=True)
class Consistency:
    """How far views agree. `views`: those in which a person was found. `residual`: median distance in pixels from a
    landmark to the projection of its position, triangulated from all views that show it; `share`: of the person's
    height. NaN if fewer than two views show a person."""

    views: int
    residual: float
    share: float

    def __str__(self) -> str:
        if self.views < 2:
            return f"view consistency: not measured, a person was found in {self.views} of the views, two are needed"
        if not np.isfinite(self.residual):
            return "view consistency: not measured, no landmark is seen in two views and in front of both cameras"
        return (
            f"view consistency: residual of triangulated landmarks {self.residual:.1f} px, {100 * self.share:.1f} % of "
            f"the person's height, in the median over {self.views} views"
        )


def view_consistency(
    videos: NDArray[np.uint8], fps: Fraction, cameras: NDArray[np.floating], K: NDArray[np.floating]
) -> Consistency:
    """Measure V synchronous `videos` [V, T, H, W, 3] RGB.

    `cameras` [V, T or 1, 3, 4]: from common coordinates to each camera's. `K` [3, 3], or [V, 1, 3, 3] for each view:
    intrinsics in pixels.
    """
    tracks = [track_person(frames, float(fps)) for frames in videos]
    seen = [view for view, track in enumerate(tracks) if track is not None and np.isfinite(track).all(1).any()]
    if len(seen) < 2:
        return Consistency(len(seen), np.nan, np.nan)
    landmarker, frames = Landmarker(), videos.shape[1]
    pixels, confidence = np.zeros((len(seen), frames * BODY, 2)), np.zeros((len(seen), frames * BODY))
    heights = []
    for row, view in enumerate(seen):
        track = tracks[view]
        assert track is not None
        body = landmarker.detect(videos[view], track).body.reshape(-1, 4)  # [T 33, 4]
        pixels[row], confidence[row] = body[:, :2], body[:, 3]
        heights.append(np.nanmedian(track[:, 3] - track[:, 1]))
    confidence[(confidence < SURE) | ((confidence >= SURE).sum(0) < 2)] = 0
    poses = np.broadcast_to(cameras[seen], (len(seen), frames, 3, 4))
    projections = np.repeat(K @ poses if K.ndim == 2 else K[seen] @ poses, BODY, axis=1)  # [V, T 33, 3, 4]
    residual = triangulate(pixels, confidence, projections, ANY, least=SURE).residual
    shown = ~np.isnan(residual)
    if not shown.any():
        return Consistency(len(seen), np.nan, np.nan)
    shares = residual / np.array(heights)[:, None]
    return Consistency(len(seen), float(np.median(residual[shown])), float(np.median(shares[shown])))
