"""A small, exact z-buffer rasteriser for meshes of small triangles, in NumPy: no GPU, display or system library needed.

Image points follow `storage_schemas.conventions`: the origin is the corner of the image. Every pixel is sampled at
SAMPLES x SAMPLES points for anti-aliasing.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Image = NDArray[np.float32]

SAMPLES = 2
EDGE = 1e-3  # share by which triangles extend over their edges, so that rounding leaves no holes
NEAR = 0.1  # metres; triangles with a corner closer to the camera are not drawn


@dataclass(frozen=True)
class Layer:
    """A rendered mesh: premultiplied colours [h, w, 3] (0 to 255) and coverage [h, w, 1] (0 to 1) of the pixels that
    start at row `top` and column `left`."""

    top: int
    left: int
    colours: Image
    coverage: Image

    def over(self, image: Image) -> None:
        """Composite the layer over an image [H, W, 3], in place."""
        height, width = self.coverage.shape[:2]
        window = image[self.top : self.top + height, self.left : self.left + width]
        window *= 1 - self.coverage
        window += self.colours


def draw(
    points: Array, depths: Array, faces: NDArray[np.integer], colours: Array, size: tuple[int, int]
) -> Layer | None:
    """Render a mesh with a z-buffer and back-face culling; return None if nothing is visible.

    `points` [V, 2] pixels, `depths` [V] metres, `faces` [F, 3] clockwise in the image (y points down, so they are
    counter-clockwise if y points up), `colours` [V, 3] 0 to 255, `size` (width, height).
    """
    corners = (points * SAMPLES - 0.5).astype(np.float32)[faces]  # [F, 3, 2] in samples
    first, second, third = corners.transpose(1, 0, 2)  # much faster than a reduction over three
    low = np.ceil(np.minimum(np.minimum(first, second), third)).astype(np.int32)
    high = np.floor(np.maximum(np.maximum(first, second), third)).astype(np.int32)
    low, high = np.maximum(low, 0), np.minimum(high, np.array(size, np.int32) * SAMPLES - 1)
    a, b, c = first, second - first, third - first
    area = b[:, 0] * c[:, 1] - b[:, 1] * c[:, 0]
    seen = (area < 0) & (low <= high).all(1) & (depths[faces].min(1) > NEAR)
    if not seen.any():
        return None
    a, b, c, low, high, faces = (array[seen] for array in (a, b, c, low, high, faces))
    area = area[seen, None]

    left, top = low.min(0) // SAMPLES * SAMPLES
    width, height = (high.max(0) // SAMPLES + 1) * SAMPLES - (left, top)
    triangle, x, y, counts = _samples(low, high)
    # Barycentric coordinates of corners 1 and 2 are linear in image x and y.
    to_second = np.stack([c[:, 1], -c[:, 0]], -1) / area
    to_third = np.stack([-b[:, 1], b[:, 0]], -1) / area
    second, third = (
        np.repeat(-(a * to).sum(-1), counts)
        + x.astype(np.float32) * np.repeat(to[:, 0], counts)
        + y.astype(np.float32) * np.repeat(to[:, 1], counts)
        for to in (to_second, to_third)
    )
    covered = (second >= -EDGE) & (third >= -EDGE) & (second + third <= 1 + EDGE)
    triangle, second, third = triangle[covered], second[covered], third[covered]
    sample = (y[covered] - top) * width + x[covered] - left

    nearness = (1 / depths[faces]).astype(np.float32)  # [F, 3]; unlike depth it is linear in the image
    values = _blend(nearness, triangle, second, third)
    buffer = np.zeros(width * height, np.float32)
    np.maximum.at(buffer, sample, values)
    front = values == buffer[sample]
    sample, triangle, second, third = sample[front], triangle[front], second[front], third[front]
    drawn = np.zeros((width * height, 4), np.float32)
    drawn[sample, :3] = _blend(colours.astype(np.float32)[faces], triangle, second[:, None], third[:, None])
    drawn[sample, 3] = 1
    drawn = drawn.reshape(height // SAMPLES, SAMPLES, width // SAMPLES, SAMPLES, 4)
    drawn = np.mean([drawn[:, i, :, j] for i in range(SAMPLES) for j in range(SAMPLES)], axis=0)
    return Layer(int(top) // SAMPLES, int(left) // SAMPLES, drawn[..., :3], drawn[..., 3:])


Integers = NDArray[np.int32]


def _samples(low: Integers, high: Integers) -> tuple[Integers, Integers, Integers, Integers]:
    """Return every sample in every triangle's bounding box: triangle index, x, y; and the sample count per triangle."""
    widths, heights = (high - low + 1).T
    counts = widths * heights
    triangle = np.repeat(np.arange(len(low), dtype=np.int32), counts)
    first = np.cumsum(counts, dtype=np.int32) - counts
    row, column = np.divmod(np.arange(len(triangle), dtype=np.int32) - np.repeat(first, counts), widths[triangle])
    return triangle, low[triangle, 0] + column, low[triangle, 1] + row, counts


def _blend(values: Array, triangle: Integers, second: Array, third: Array) -> Array:
    """Interpolate values [F, 3, ...] at the corners to the samples."""
    first = values[:, 0]
    blended: Array = first[triangle]
    blended = blended + second * (values[:, 1] - first)[triangle]
    return blended + third * (values[:, 2] - first)[triangle]
