"""Capsules seen by a camera: for every pixel the nearest one, how far, which, and which way its surface faces.

In closed form: the surface of a capsule is that of two balls and of the tube between them, and the nearest place where
a ray enters one of the three is where it enters the capsule.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from opendimo.model.drawing.boxes import pixels_in

NEAR = 0.05
"""Metres: what a ray enters nearer to the camera than this is not seen."""


class Capsules(NamedTuple):
    """F pictures of N capsules in the camera's axes (x right, y down, z forward), metres. What is not `there` may be
    anything, also NaN."""

    start: Tensor  # [F, N, 3] middle of one ball
    end: Tensor  # [F, N, 3] and of the other; it may be the same
    radius: Tensor  # [N]
    there: Tensor  # [F, N] bool


class Rendering(NamedTuple):
    """What is seen through the middle of each pixel."""

    depth: Tensor  # [F, H, W] z of the surface in metres, infinite where there is none
    normal: Tensor  # [F, H, W, 3] of length one, out of the surface; zeros where there is none
    capsule: Tensor  # [F, H, W] its index, -1 where there is none


@torch.no_grad()
def render(capsules: Capsules, K: Tensor, height: int, width: int) -> Rendering:
    """`K` [F, 3, 3] is normalised: pictures reach from (0, 0) to (1, 1)."""
    frame, index = torch.nonzero(capsules.there, as_tuple=True)  # [M] capsules
    start, end, radius = capsules.start[frame, index], capsules.end[frame, index], capsules.radius[index]
    low, high = _boxes(start, end, radius, K[frame])
    size = torch.tensor([width, height], device=K.device)
    which, x, y = pixels_in(low * size, high * size, height, width)  # [n] candidates: a capsule and a pixel each

    pictures, area = len(capsules.there), height * width
    rays = pixel_rays(K, height, width).flatten(0, 2)  # [F H W, 3]
    pixel = frame[which] * area + y * width + x
    entered = _enters(rays[pixel], start[which], end[which], radius[which])
    depth = torch.full((pictures * area,), torch.inf, device=K.device).scatter_reduce_(0, pixel, entered, "amin")
    nearest = torch.isfinite(entered) & (entered == depth[pixel])
    winner = torch.full((pictures * area,), -1, device=K.device)
    winner.scatter_reduce_(0, pixel[nearest], which[nearest], "amax")

    seen = torch.nonzero(winner >= 0)[:, 0]
    which = winner[seen]
    normal = torch.zeros_like(rays)
    normal[seen] = _outward(rays[seen] * depth[seen, None], start[which], end[which])
    indices = torch.full_like(winner, -1)
    indices[seen] = index[which]
    shape = (pictures, height, width)
    return Rendering(depth.view(shape), normal.view(*shape, 3), indices.view(shape))


def pixel_rays(K: Tensor, height: int, width: int) -> Tensor:
    """Points at depth 1 that are seen in the middles of pixels: [F, 3, 3] normalised -> [F, H, W, 3]."""
    x = (torch.arange(width, device=K.device) + 0.5) / width
    y = (torch.arange(height, device=K.device) + 0.5) / height
    pixels = torch.stack([*torch.meshgrid(x, y, indexing="xy"), torch.ones(height, width, device=K.device)], dim=-1)
    inverse = torch.linalg.inv(K)[:, None, None]  # [F, 1, 1, 3, 3]
    return (inverse * pixels[..., None, :]).sum(-1)  # in full precision also where products of matrices are not


def _boxes(start: Tensor, end: Tensor, radius: Tensor, K: Tensor) -> tuple[Tensor, Tensor]:
    """Bounds [M, 2] of the pictures of M capsules: of both balls, for a capsule is what lies between them. Everything
    where one reaches behind the camera, nothing where all of it is there."""
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
    shift = torch.cat([skew, torch.zeros_like(skew)], dim=-1)  # of x by y
    scale, centre = K[:, :2, :2].diagonal(dim1=1, dim2=2), K[:, :2, 2]
    low, high = scale * low + centre + shift.amin(0), scale * high + centre + shift.amax(0)
    return low, torch.where(behind, -torch.inf, high)


def _enters(rays: Tensor, start: Tensor, end: Tensor, radius: Tensor) -> Tensor:
    """Depth [n] at which rays [n, 3] enter capsules with `start`, `end` [n, 3]; infinite where they do not."""
    axis = end - start
    squared = (axis**2).sum(-1)
    # across the axis: of the ray, and of the way from the start to the camera, which is the origin
    along_ray = (rays * axis).sum(-1) / squared.clamp(min=1e-9)
    along_start = -(start * axis).sum(-1) / squared.clamp(min=1e-9)
    tube = _first_root(rays - along_ray[:, None] * axis, -start - along_start[:, None] * axis, radius)
    along = along_start + tube * along_ray
    tube = torch.where((squared > 1e-9) & (along >= 0) & (along <= 1), tube, torch.inf)
    return torch.minimum(tube, torch.minimum(*(_first_root(rays, -middle, radius) for middle in (start, end))))


def _first_root(direction: Tensor, offset: Tensor, radius: Tensor) -> Tensor:
    """The smaller t with |offset + t direction| = radius, infinite where there is none or it is nearer than `NEAR`."""
    a, b = (direction**2).sum(-1), (direction * offset).sum(-1)
    c = (offset**2).sum(-1) - radius**2
    discriminant = b**2 - a * c
    root = (-b - discriminant.clamp(min=0).sqrt()) / a.clamp(min=1e-9)
    return torch.where((discriminant > 0) & (a > 1e-9) & (root > NEAR), root, torch.inf)


def _outward(points: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """From the nearest point of the axis to points of the surface, of length one. [n, 3]."""
    axis = end - start
    along = ((points - start) * axis).sum(-1, keepdim=True) / (axis**2).sum(-1, keepdim=True).clamp(min=1e-9)
    return normalize(points - start - along.clamp(0, 1) * axis, dim=-1)
