"""Decide whether the frames around a large change show one continuous take, so that the change is not a cut.

Flashes, lens flares, dropped frames, steps of exposure and jolts of the camera change most pixels. But edges keep their
directions, up to a motion of the camera, and soon the content is again what it was, up to its light.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.clips.frame import Image

GRID = 4  # cells per axis; a logo or a line of text that two shots share fills only a few cells
STRONG = 4.0  # least gradient of an edge, grey levels per pixel
EDGES = 0.01  # least share of edge pixels in a cell that shows something
SHOWN = 4  # least number of such cells of a picture that can be compared
ALIKE = 0.2  # least median over the cells of the mean cosine between the edges of one view; 0 is expected of others
FEATURES = 400
INLIERS = 6  # least number of corresponding features that give an alignment
SCALES = (0.9, 1.1)  # of an alignment; beyond it is a cut to a closer or wider picture
RATIO = 0.8  # largest distance of the best match relative to the second best (Lowe 2004)
SHIFT = 0.04  # usual shift of the camera across a disturbance, over the width; a jump in a pan is larger
USUAL = 1.5  # largest change across a disturbance, relative to that of the take in as many frames

Gradient = NDArray[np.float32]  # [h, w, 2]
Matrix = NDArray[np.float64]  # [2, 3]


class View:
    """What a frame shows, `image` [h, w, 3] BGR: its edges, local features and colours."""

    def __init__(self, image: Image) -> None:
        self._image = image

    @cached_property
    def shows(self) -> bool:
        """Whether the picture has enough edges to be compared; false if it is black, white or blurred."""
        return int((_cells(_length(self._gradient) > STRONG) > EDGES).sum()) >= SHOWN

    def like(self, other: "View") -> "Likeness | None":
        """Return how `other` differs from this view; None if it is another view."""
        still = np.eye(2, 3)
        for matrix in (still, self._alignment(other)):
            if matrix is None:
                return None
            moved = self if matrix is still else View(_warped(self._image, matrix))
            if _agreement(moved._gradient, other._gradient) >= ALIKE:
                centre = np.array([*np.divide(self._image.shape[1::-1], 2), 1])
                shift = np.hypot(*(matrix @ centre - centre[:2])) / self._image.shape[1]
                return Likeness(float(shift), _difference(moved._image, other._image))
        return None

    @cached_property
    def _gray(self) -> NDArray[np.uint8]:
        return np.asarray(cv2.cvtColor(self._image, cv2.COLOR_BGR2GRAY), np.uint8)

    @cached_property
    def _gradient(self) -> Gradient:
        smooth = cv2.GaussianBlur(self._gray, (0, 0), 1.0)
        return np.stack([cv2.Sobel(smooth, cv2.CV_32F, *axes, scale=1 / 8) for axes in ((1, 0), (0, 1))], axis=-1)

    @cached_property
    def _features(self) -> tuple[NDArray[np.float32], cv2.typing.MatLike | None]:
        """Positions [N, 2] and descriptors of local features (ORB, Rublee et al. 2011)."""
        points, descriptors = cv2.ORB.create(FEATURES, fastThreshold=7).detectAndCompute(self._gray, None)
        return np.array([point.pt for point in points], np.float32).reshape(-1, 2), descriptors

    def _alignment(self, other: "View") -> Matrix | None:
        """Return the similarity transform to `other`, or None if few features correspond or its scale differs."""
        (points, descriptors), (other_points, other_descriptors) = self._features, other._features
        if descriptors is None or other_descriptors is None:
            return None
        pairs = cv2.BFMatcher(cv2.NORM_HAMMING).knnMatch(descriptors, other_descriptors, k=2)
        best = [pair[0] for pair in pairs if len(pair) == 2 and pair[0].distance < RATIO * pair[1].distance]
        if len(best) < INLIERS:
            return None
        from_points = points[[match.queryIdx for match in best]]
        to_points = other_points[[match.trainIdx for match in best]]
        matrix, inliers = cv2.estimateAffinePartial2D(from_points, to_points)
        if matrix is None or inliers.sum() < INLIERS or not SCALES[0] < np.hypot(*matrix[:, 0]) < SCALES[1]:
            return None
        return np.asarray(matrix)


class Likeness(NamedTuple):
    """How two pictures of one view differ: the `shift` of the camera, over the width, and the mean HSV difference that
    is left after alignment in place and light, 0 to 255."""

    shift: float
    difference: float

    def within(self, shift: float, difference: float) -> bool:
        """Return whether both are at most as large as these."""
        return self.shift <= shift and self.difference <= difference


def disturbed(before: Sequence[View], after: Sequence[View], min_content: float) -> int | None:
    """Return how many of the first frames of `after` are a disturbance of one take; None if a shot begins there.

    `before`: the last frame first. The take goes on if the frame on one side has the content of one on the other side
    and only this view is shown in between. Its content may differ by `min_content`, and its place by `SHIFT`, or by
    what changes in the take itself in as many frames.
    """
    length = _resumes(before, after, min_content)
    if length is None and _resumes(after, before, min_content) is not None:
        return 0
    return length


def _resumes(here: Sequence[View], there: Sequence[View], min_content: float) -> int | None:
    """Return the first index of `there` with the content of the first of `here` that shows something, if any."""
    first = next((index for index, view in enumerate(here) if view.shows), None)
    if first is None:
        return None
    for index, other in enumerate(there):
        if not other.shows:
            continue
        likeness = here[first].like(other)
        if likeness is None:
            return None
        if likeness.within(SHIFT, min_content):
            return index
        earlier = 2 * first + index + 1
        usual = here[first].like(here[earlier]) if earlier < len(here) else None
        if usual is not None and likeness.within(USUAL * usual.shift, USUAL * usual.difference):
            return index
    return None


def _agreement(a: Gradient, b: Gradient) -> float:
    """Return the mean cosine of the angles between corresponding edges: its median over the cells that have edges.

    Edges are those of the picture that has fewer: light may hide edges of the other.
    """
    lengths = _length(a), _length(b)
    edges = min((length > STRONG for length in lengths), key=np.count_nonzero)
    cosines = (a * b).sum(-1) / np.maximum(lengths[0] * lengths[1], 1)
    shares, sums = _cells(edges), _cells(np.where(edges, cosines, 0))
    shown = shares > EDGES
    return float(np.median(sums[shown] / shares[shown])) if shown.any() else 0.0


def _difference(a: Image, b: Image) -> float:
    """Return the mean HSV difference, the content detector's measure, after `a` got the light of `b` or inversely."""
    pairs = (_relit(a, b), b), (a, _relit(b, a))
    hsv = [[cv2.cvtColor(image, cv2.COLOR_BGR2HSV) for image in pair] for pair in pairs]
    return min(float(cv2.absdiff(*pair).mean()) for pair in hsv)


def _relit(image: Image, like: Image) -> Image:
    """Change the tones of each channel so that its histogram is that of `like`."""
    channels = []
    for values, wanted in zip(cv2.split(image), cv2.split(like), strict=True):
        shares, wanted_shares = (np.bincount(c.ravel(), minlength=256).cumsum() / c.size for c in (values, wanted))
        tones = np.interp(shares, wanted_shares, np.arange(256))
        channels.append(cv2.LUT(values, tones.round().astype(np.uint8)))
    return np.asarray(cv2.merge(channels), np.uint8)


def _warped(image: Image, matrix: Matrix) -> Image:
    size = image.shape[1::-1]
    return np.asarray(cv2.warpAffine(image, matrix, size, borderMode=cv2.BORDER_REPLICATE), np.uint8)


def _length(gradient: Gradient) -> NDArray[np.float32]:
    return np.asarray(np.hypot(gradient[..., 0], gradient[..., 1]))


def _cells(values: NDArray[np.generic]) -> NDArray[np.float32]:
    """Return the means of `values` [h, w] in each cell [GRID, GRID]."""
    return np.asarray(cv2.resize(values.astype(np.float32), (GRID, GRID), interpolation=cv2.INTER_AREA))
