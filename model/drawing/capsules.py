"""Ray-cast capsules: depth, normal and index of the nearest capsule at every pixel, or of those behind it.

The solution is in closed form: a capsule is the union of two balls and the tube between them, so the first point where
a ray enters any of the three is where it enters the capsule.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from opendimo.model.drawing.boxes import pixels_in

NEAR = 0.05
"""Near clipping distance in metres: surfaces that a ray enters closer to the camera are not rendered."""


class Capsules(NamedTuple):
    """N capsules in F images, in camera coordinates (x right, y down, z forward), metres.

    Capsules that are not `there` are not rendered; their values may be anything, including NaN.
    """

    start: Tensor  # [F, N, 3] centre of one ball
    end: Tensor  # [F, N, 3] centre of the other ball; may equal `start`
    radius: Tensor  # [F, N]
    there: Tensor  # [F, N] bool


class Rendering(NamedTuple):
    """The surface seen through the centre of each pixel."""

    depth: Tensor  # [F, H, W] z of the surface in metres; infinite for background
    normal: Tensor  # [F, H, W, 3] unit outward normal; zeros for background
    capsule: Tensor  # [F, H, W] index of the capsule; -1 for background


class Hits(NamedTuple):
    """The n pairs of a pixel and a capsule that the ray through the pixel's centre enters."""

    pixel: Tensor  # [n] index of the pixel in [F, H, W]
    capsule: Tensor  # [n] index of the capsule
    start: Tensor  # [n, 3] its ends
    end: Tensor  # [n, 3]
    depth: Tensor  # [n] z at which the ray enters it, metres
    rays: Tensor  # [F, H, W, 3] points at depth 1

    def front(self) -> Tensor:
        """Return the row of the nearest hit at each pixel, [F H W]; -1 if there is none."""
        return self._best(self.depth, "amin", torch.inf)

    def topmost(self) -> Tensor:
        """Return the row of the hit of the capsule with the highest index at each pixel, whatever its depth."""
        return self._best(self.capsule, "amax", -1)

    def without(self, rows: Tensor) -> "Hits":
        """Return the hits except some rows, as `front` returns them."""
        kept = torch.ones(len(self.pixel), dtype=torch.bool, device=self.pixel.device)
        kept[rows[rows >= 0]] = False
        start, end, depth = (x[kept] for x in (self.start, self.end, self.depth))
        return Hits(self.pixel[kept], self.capsule[kept], start, end, depth, self.rays)

    def rendering(self, rows: Tensor) -> Rendering:
        """Return the surfaces of one hit per pixel."""
        covered = torch.nonzero(rows >= 0)[:, 0]
        chosen, rays = rows[covered], self.rays.flatten(0, 2)
        depth = torch.full((len(rows),), torch.inf, device=rays.device)
        depth[covered] = self.depth[chosen]
        normal = torch.zeros_like(rays)
        normal[covered] = _outward(rays[covered] * depth[covered, None], self.start[chosen], self.end[chosen])
        indices = torch.full_like(rows, -1)
        indices[covered] = self.capsule[chosen]
        shape = self.rays.shape[:3]
        return Rendering(depth.view(shape), normal.view(*shape, 3), indices.view(shape))

    def _best(self, values: Tensor, reduce: str, empty: float) -> Tensor:
        pixels = self.rays.shape[:3].numel()
        best = torch.full((pixels,), empty, dtype=values.dtype, device=values.device)
        best.scatter_reduce_(0, self.pixel, values, reduce)
        row = torch.nonzero(values == best[self.pixel])[:, 0]
        rows = torch.full((pixels,), -1, device=values.device)
        return rows.scatter_reduce_(0, self.pixel[row], row, "amax")


def render(capsules: Capsules, K: Tensor, height: int, width: int) -> Rendering:
    """Render capsules. `K` [F, 3, 3]: normalised intrinsics, images span (0, 0) to (1, 1)."""
    found = hits(capsules, K, height, width)
    return found.rendering(found.front())


@torch.no_grad()
def hits(capsules: Capsules, K: Tensor, height: int, width: int) -> Hits:
    """Return all capsules that the rays of all pixels enter. `K` as in `render`."""
    frame, index = torch.nonzero(capsules.there, as_tuple=True)  # [M] capsules
    start, end, radius = capsules.start[frame, index], capsules.end[frame, index], capsules.radius[frame, index]
    low, high = _boxes(start, end, radius, K[frame])
    size = torch.tensor([width, height], device=K.device)
    candidate, x, y = pixels_in(low * size, high * size, height, width)  # [n] pairs of a capsule and a pixel

    rays = pixel_rays(K, height, width)  # [F, H, W, 3]
    pixel = frame[candidate] * (height * width) + y * width + x
    depth = _entry_depth(rays.flatten(0, 2)[pixel], start[candidate], end[candidate], radius[candidate])
    hit = torch.isfinite(depth)
    candidate = candidate[hit]
    return Hits(pixel[hit], index[candidate], start[candidate], end[candidate], depth[hit], rays)


def pixel_rays(K: Tensor, height: int, width: int) -> Tensor:
    """Return the points at depth 1 on the rays through pixel centres: `K` [F, 3, 3] normalised -> [F, H, W, 3]."""
    x = (torch.arange(width, device=K.device) + 0.5) / width
    y = (torch.arange(height, device=K.device) + 0.5) / height
    pixels = torch.stack([*torch.meshgrid(x, y, indexing="xy"), torch.ones(height, width, device=K.device)], dim=-1)
    inverse = torch.linalg.inv(K)[:, None, None]  # [F, 1, 1, 3, 3]
    return (inverse * pixels[..., None, :]).sum(-1)  # full precision even if matrix products use TF32


def _boxes(start: Tensor, end: Tensor, radius: Tensor, K: Tensor) -> tuple[Tensor, Tensor]:
    """Return image bounds [M, 2] of M capsules, from the projections of their two balls.

    They are infinite if a ball reaches behind the camera, and empty if the whole capsule is behind it.
    """
    balls = torch.stack([start, end], dim=1)  # [M, 2, 3]
    z, r = balls[..., 2:], radius[:, None, None]
    in_front = z - r > NEAR  # [M, 2, 1]
    # x / z of the two tangents from the camera to a circle
    spread = r * (balls[..., :2] ** 2 + z**2 - r**2).clamp(min=0).sqrt()
    square = torch.where(in_front, z**2 - r**2, 1.0)
    sides = (balls[..., :2] * z + spread * torch.tensor([-1.0, 1.0], device=z.device)[:, None, None, None]) / square
    sides = torch.where(in_front, sides, torch.tensor([-torch.inf, torch.inf], device=z.device)[:, None, None, None])
    low, high = sides[0].amin(1), sides[1].amax(1)  # [M, 2]
    behind = ((z + r) < NEAR).all(1)  # [M, 1]
    skew = torch.stack([K[:, 0, 1, None] * x[:, 1:] for x in (low, high)]).nan_to_num(0.0)
    shift = torch.cat([skew, torch.zeros_like(skew)], dim=-1)  # shift of x by y
    scale, centre = K[:, :2, :2].diagonal(dim1=1, dim2=2), K[:, :2, 2]
    low, high = scale * low + centre + shift.amin(0), scale * high + centre + shift.amax(0)
    return low, torch.where(behind, -torch.inf, high)


def _entry_depth(rays: Tensor, start: Tensor, end: Tensor, radius: Tensor) -> Tensor:
    """Return the depth [n] at which rays [n, 3] enter capsules with `start`, `end` [n, 3]; infinite if they miss."""
    axis = end - start
    squared = (axis**2).sum(-1)
    # components across the axis: of the ray, and of the vector from the start to the camera, which is the origin
    along_ray = (rays * axis).sum(-1) / squared.clamp(min=1e-9)
    along_start = -(start * axis).sum(-1) / squared.clamp(min=1e-9)
    tube = _first_root(rays - along_ray[:, None] * axis, -start - along_start[:, None] * axis, radius)
    along = along_start + tube * along_ray
    tube = torch.where((squared > 1e-9) & (along >= 0) & (along <= 1), tube, torch.inf)
    return torch.minimum(tube, torch.minimum(*(_first_root(rays, -middle, radius) for middle in (start, end))))


def _first_root(direction: Tensor, offset: Tensor, radius: Tensor) -> Tensor:
    """Return the smaller t with |offset + t direction| = radius; infinite if there is none or it is below `NEAR`."""
    a, b = (direction**2).sum(-1), (direction * offset).sum(-1)
    c = (offset**2).sum(-1) - radius**2
    discriminant = b**2 - a * c
    root = (-b - discriminant.clamp(min=0).sqrt()) / a.clamp(min=1e-9)
    return torch.where((discriminant > 0) & (a > 1e-9) & (root > NEAR), root, torch.inf)


def _outward(points: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Return unit vectors [n, 3] from the nearest points of the axis to points of the surface."""
    axis = end - start
    along = ((points - start) * axis).sum(-1, keepdim=True) / (axis**2).sum(-1, keepdim=True).clamp(min=1e-9)
    return normalize(points - start - along.clamp(0, 1) * axis, dim=-1)
