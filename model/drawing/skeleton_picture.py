"""A skeleton drawn as people look at it: one coloured line a bone, the later bones on top."""

import colorsys

import torch
from torch import Tensor

from opendimo.model.body.skeleton import BONES
from opendimo.model.drawing.boxes import pixels_in

BODY_WIDTH, HAND_WIDTH = 0.008, 0.004
"""Half width of lines over the shorter side of the picture: of body bones and of finger bones."""
COLOURS = tuple(colorsys.hsv_to_rgb(0.618 * i % 1, 1.0, 1.0) for i in range(len(BONES)))
"""RGB of the 51 bones in [0, 1]: the golden ratio of a turn from hue to hue, so that left and right look different."""


@torch.no_grad()
def draw_skeleton(joints: Tensor, strength: Tensor, height: int, width: int) -> Tensor:
    """Joints [F, 52, 2], (0, 0) upper left and (1, 1) lower right -> pictures [F, 3, H, W] in [0, 1], black around.

    `strength` [F, 51] of the bones in [0, 1] is what their colours are multiplied by; where it is 0 nothing is drawn.
    """
    device, frames = joints.device, len(joints)
    frame, bone = torch.nonzero(strength > 0, as_tuple=True)  # [M] lines
    parents, children = torch.tensor(BONES, device=device).T
    size = torch.tensor([width, height], device=device)
    start, end = joints[frame, parents[bone]] * size, joints[frame, children[bone]] * size  # [M, 2] pixels
    half = torch.where(children[bone] < 22, BODY_WIDTH, HAND_WIDTH) * min(height, width)
    half = half.clamp(min=0.75)  # pixels, so that no line falls between their middles

    line, x, y = pixels_in(
        torch.minimum(start, end) - half[:, None], torch.maximum(start, end) + half[:, None], height, width
    )
    inside = _distance(torch.stack([x, y], -1) + 0.5, start[line], end[line]) < half[line]
    line, pixel = line[inside], (y * width + x)[inside]
    top = torch.full((frames * height * width,), -1, device=device)  # the bone that is seen in each pixel
    top.scatter_reduce_(0, frame[line] * height * width + pixel, bone[line], "amax")
    top = top.view(frames, height * width)

    paint = strength[..., None] * torch.tensor(COLOURS, device=device)  # [F, 51, 3]
    picture = paint.gather(1, top.clamp(min=0)[..., None].expand(-1, -1, 3)) * (top >= 0)[..., None]  # [F, H W, 3]
    return picture.transpose(1, 2).unflatten(2, (height, width))


def _distance(points: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """From points to segments, all [n, 2] -> [n]."""
    axis, offset = end - start, points - start
    along = (offset * axis).sum(-1, keepdim=True) / (axis**2).sum(-1, keepdim=True).clamp(min=1e-12)
    return (offset - along.clamp(0, 1) * axis).norm(dim=-1)
