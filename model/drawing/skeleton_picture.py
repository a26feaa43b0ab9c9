"""Draw 2-D skeletons: one coloured line per bone, later bones on top."""

import colorsys

import torch
from torch import Tensor

from opendimo.model.body.skeleton import BONES
from opendimo.model.drawing.boxes import pixels_in

BODY_WIDTH, HAND_WIDTH = 0.008, 0.004
"""Half line width of body bones and of finger bones, relative to the shorter side of the image."""
COLOURS = tuple(colorsys.hsv_to_rgb(0.618 * i % 1, 1.0, 1.0) for i in range(len(BONES)))
"""RGB of the 51 bones in [0, 1]: hues differ by the golden ratio of a full turn, so left and right look different."""


@torch.no_grad()
def draw_skeleton(joints: Tensor, strength: Tensor, height: int, width: int) -> Tensor:
    """Draw joints [F, 52, 2], from (0, 0) upper left to (1, 1) lower right, as images [F, 3, H, W] in [0, 1].

    `strength` [F, 51] in [0, 1] multiplies the colours of the bones; bones with 0 are not drawn. The background is
    black.
    """
    device, frames = joints.device, len(joints)
    frame, bone = torch.nonzero(strength > 0, as_tuple=True)  # [M] lines
    parents, children = torch.tensor(BONES, device=device).T
    size = torch.tensor([width, height], device=device)
    start, end = joints[frame, parents[bone]] * size, joints[frame, children[bone]] * size  # [M, 2] pixels
    half = torch.where(children[bone] < 22, BODY_WIDTH, HAND_WIDTH) * min(height, width)
    half = half.clamp(min=0.75)  # pixels, so that no line falls between pixel centres

    line, x, y = pixels_in(
        torch.minimum(start, end) - half[:, None], torch.maximum(start, end) + half[:, None], height, width
    )
    inside = _distance(torch.stack([x, y], -1) + 0.5, start[line], end[line]) < half[line]
    line, pixel = line[inside], (y * width + x)[inside]
    top = torch.full((frames * height * width,), -1, device=device)  # the visible bone of each pixel
    top.scatter_reduce_(0, frame[line] * height * width + pixel, bone[line], "amax")
    top = top.view(frames, height * width)

    paint = strength[..., None] * torch.tensor(COLOURS, device=device)  # [F, 51, 3]
    picture = paint.gather(1, top.clamp(min=0)[..., None].expand(-1, -1, 3)) * (top >= 0)[..., None]  # [F, H W, 3]
    return picture.transpose(1, 2).unflatten(2, (height, width))


def _distance(points: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Return the distances from points to segments, all [n, 2] -> [n]."""
    axis, offset = end - start, points - start
    along = (offset * axis).sum(-1, keepdim=True) / (axis**2).sum(-1, keepdim=True).clamp(min=1e-12)
    return (offset - along.clamp(0, 1) * axis).norm(dim=-1)
