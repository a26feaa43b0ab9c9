"""Dual-dimensional bone maps: how bones lie on the screen, and how near their surfaces are.

After HVG (Wang et al., arXiv 2602.21188), which describes a bone map that adds 3-D information to a 2-D skeleton in
order to resolve self-occlusion; its channels are not published, these are ours. All people are drawn with the same
thin radii, so that the map does not contain the shape of the driver's body.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from opendimo.model.drawing.capsules import NEAR, Hits, hits
from opendimo.model.drawing.limbs import body_capsules

THIN, LEAST = 0.35, 0.75
"""Radius of a bone relative to that of a limb, and in pixels, so that no bone falls between pixel centres."""
RANGE = 1.0
"""Distance in metres before and behind the pelvis over which nearness is measured."""


class BoneMaps(NamedTuple):
    """Maps of F images. Bones are indices into `limbs.LIMBS`, -1 where there is none; values are 0 there.

    The 2-D half shows the bone with the highest index at a pixel, so that it does not contain the order in depth. The
    3-D half shows the nearest bone, and the nearest one behind it.
    """

    direction: Tensor  # [F, 2, H, W] unit vector on the screen from parent to child, x right, y down
    along: Tensor  # [F, 1, H, W] position along the bone on the screen, 0 at the parent, 1 at the child
    drawn: Tensor  # [F, H, W] bone of the 2-D half
    normal: Tensor  # [F, 3, H, W] unit normal of the surface, in the camera
    nearness: Tensor  # [F, 1, H, W] depth of the pelvis minus that of the surface, in `RANGE`, within -1 and 1
    front: Tensor  # [F, H, W] nearest bone
    second_nearness: Tensor  # [F, 1, H, W] of the bone behind it
    second: Tensor  # [F, H, W] bone behind the nearest one


@torch.no_grad()
def draw_bone_maps(
    joints: Tensor, pose_ok: Tensor, hands_pose_ok: Tensor, K: Tensor, height: int, width: int
) -> BoneMaps:
    """Draw bones. `joints` [F, 52, 3]: metres, camera coordinates. `pose_ok` [F], `hands_pose_ok` [F, 2]: labelled.

    `K` [F, 3, 3]: normalised intrinsics, images span (0, 0) to (1, 1).
    """
    bodies = body_capsules(joints, pose_ok, hands_pose_ok)
    pixels = torch.minimum(width * K[:, 0, 0], height * K[:, 1, 1])[:, None]  # focal length, [F, 1]
    farther = torch.maximum(bodies.start[..., 2], bodies.end[..., 2])  # [F, 52]
    radius = torch.maximum(THIN * bodies.radius, LEAST * farther / pixels)
    found = hits(bodies._replace(radius=radius), K, height, width)
    rows = found.topmost()
    direction, along = _on_screen(found, rows, K)
    front_rows = found.front()
    front = found.rendering(front_rows)
    behind = found.without(front_rows)
    second = behind.rendering(behind.front())
    pelvis = joints[:, 0, 2, None, None]
    return BoneMaps(
        direction,
        along,
        found.rendering(rows).capsule,
        front.normal.movedim(-1, 1),
        _nearness(pelvis, front.depth),
        front.capsule,
        _nearness(pelvis, second.depth),
        second.capsule,
    )


def _on_screen(found: Hits, rows: Tensor, K: Tensor) -> tuple[Tensor, Tensor]:
    """Return `direction` and `along` of the bones of one hit per pixel; zeros where a bone ends behind the camera."""
    frames, height, width = found.rays.shape[:3]
    size = torch.tensor([width, height], device=K.device)
    covered = torch.nonzero(rows >= 0)[:, 0]
    start, end = found.start[rows[covered]], found.end[rows[covered]]  # [n, 3]
    seen = (start[:, 2] > NEAR) & (end[:, 2] > NEAR)
    covered, start, end = covered[seen], start[seen], end[seen]
    frame = covered // (height * width)
    first, last = (_projected(points, K[frame]) * size for points in (start, end))  # [n, 2] pixels
    axis = last - first
    column, line = covered % width, covered // width % height
    centres = torch.stack([column, line], dim=-1) + 0.5
    share = ((centres - first) * axis).sum(-1) / axis.square().sum(-1).clamp(min=1e-6)
    maps = torch.zeros(frames * height * width, 3, device=K.device)
    maps[covered] = torch.cat([normalize(axis, dim=-1), share.clamp(0, 1)[:, None]], dim=-1)
    maps = maps.view(frames, height, width, 3).movedim(-1, 1)
    return maps[:, :2], maps[:, 2:]


def _projected(points: Tensor, K: Tensor) -> Tensor:
    """Project points [n, 3] by normalised intrinsics [n, 3, 3] to [n, 2]."""
    image = (K * points[:, None]).sum(-1)  # [n, 3]
    return image[:, :2] / image[:, 2:]


def _nearness(pelvis: Tensor, depth: Tensor) -> Tensor:
    """Return how much nearer than the pelvis [F, 1, 1] surfaces [F, H, W] are, [F, 1, H, W]; 0 where there is none."""
    nearer = ((pelvis - depth) / RANGE).clamp(-1, 1)
    return torch.where(torch.isfinite(depth), nearer, 0.0)[:, None]
