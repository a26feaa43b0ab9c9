"""Smooth surfaces from blended round cones, meshed by naive surface nets (Gibson, MERL TR99-24)."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class RoundCone:
    """A cone from `a` (radius `ra`) to `b` (radius `rb`) with round ends, scaled by `stretch` about `a`; in metres.

    `joint` is the name of the joint that it moves with.
    """

    joint: str
    a: tuple[float, float, float]
    b: tuple[float, float, float]
    ra: float
    rb: float
    stretch: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def axis_points(self, points: Array) -> tuple[Array, Array]:
        """Return the nearest points on the axis [N, 3] and the cone's radius at them [N], for points [N, 3]."""
        stretch = np.array(self.stretch)
        local = (points - self.a) / stretch
        axis = (np.array(self.b) - self.a) / stretch
        length = axis @ axis
        t = np.clip(local @ axis / length, 0, 1) if length > 0 else np.zeros(len(points))
        return np.array(self.a) + t[:, None] * axis * stretch, self.ra + t * (self.rb - self.ra)

    def distance(self, points: Array) -> Array:
        """Return the signed distance [N] (negative inside), which is approximate for stretched cones."""
        nearest, radius = self.axis_points(points)
        distance = np.linalg.norm((points - nearest) / self.stretch, axis=-1)
        return (distance - radius) * min(self.stretch)


def shares(cones: list[RoundCone], points: Array, width: float) -> Array:
    """Return each cone's weight at each point: softmax of negative distances over `width` metres. -> [N, cones]."""
    distances = np.stack([cone.distance(points) for cone in cones], axis=-1)
    weights = np.exp(-(distances - distances.min(-1, keepdims=True)) / width)
    return weights / weights.sum(-1, keepdims=True)


def blended_distance(cones: list[RoundCone], points: Array, width: float) -> Array:
    """Return the signed distance [N] to the smooth union of the cones; seams are rounded over `width` metres."""
    distances = np.stack([cone.distance(points) for cone in cones], axis=-1)
    nearest = distances.min(-1)
    return nearest - width * np.log(np.exp(-(distances - nearest[:, None]) / width).sum(-1))


def bounds(cones: list[RoundCone], margin: float) -> tuple[Array, Array]:
    """Return the corners of a box around the cones."""
    reach = [max(c.ra, c.rb) * np.array(c.stretch) + margin for c in cones]
    low = np.min([np.minimum(c.a, c.b) - r for c, r in zip(cones, reach, strict=True)], axis=0)
    high = np.max([np.maximum(c.a, c.b) + r for c, r in zip(cones, reach, strict=True)], axis=0)
    return low, high


def surface_nets(
    distance: Callable[[Array], Array], low: Array, high: Array, step: float
) -> tuple[Array, NDArray[np.int64]]:
    """Mesh the zero set of `distance` in a box, sampled every `step` metres.

    Returns vertices [V, 3] and triangles [F, 3], counter-clockwise seen from outside. Each grid cell that the surface
    crosses gets one vertex; the four cells around each crossed grid edge form a quad.
    """
    axes = [np.arange(lo, hi + step, step) for lo, hi in zip(low, high, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)  # [X, Y, Z, 3]
    values: Array = distance(grid.reshape(-1, 3)).reshape(grid.shape[:3])
    inside = values < 0

    cells = tuple(n - 1 for n in values.shape)
    total, crossings = np.zeros((*cells, 3)), np.zeros(cells)
    for axis, corner in product(range(3), product((0, 1), repeat=2)):
        offset = list(corner)
        offset.insert(axis, 0)
        start = tuple(slice(o, o + n) for o, n in zip(offset, cells, strict=True))
        offset[axis] = 1
        end = tuple(slice(o, o + n) for o, n in zip(offset, cells, strict=True))
        crossed = inside[start] != inside[end]
        gap = np.where(crossed, values[start] - values[end], 1.0)
        t = (values[start] / gap)[..., None]
        total += np.where(crossed[..., None], grid[start] + t * (grid[end] - grid[start]), 0.0)
        crossings += crossed
    occupied = crossings > 0
    vertices = total[occupied] / crossings[occupied][:, None]
    index = np.full(cells, -1)
    index[occupied] = np.arange(len(vertices))
    return vertices, np.concatenate([_quads(inside, index, axis) for axis in range(3)])


def _quads(inside: NDArray[np.bool_], index: NDArray[np.int64], axis: int) -> NDArray[np.int64]:
    first, second = np.moveaxis(inside, axis, 0)[:-1], np.moveaxis(inside, axis, 0)[1:]
    edges = np.argwhere((first != second)[:, 1:-1, 1:-1]) + np.array([0, 1, 1])
    leaving = first[tuple(edges.T)]  # the surface faces up the axis
    cell = np.moveaxis(index, axis, 0)
    around = [cell[edges[:, 0], edges[:, 1] - u, edges[:, 2] - v] for u, v in ((1, 1), (0, 1), (0, 0), (1, 0))]
    quads = np.stack(around, axis=-1)  # [N, 4]
    quads = np.where((leaving == (axis != 1))[:, None], quads, quads[:, ::-1])  # moving axis 1 to the front mirrors
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
