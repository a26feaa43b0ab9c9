"""Augmentation of driving frames in pixel space, before the encoder, so that tokens carry motion only.

3DiMo warps driving frames by random perspectives, which simulate other cameras, and jitters colours, so that
appearance cannot leak into the tokens. Strengths are not published [ours]. Labels are unchanged.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from opendimo.model.batch import Driving
from opendimo.model.encoder.colour import random_colours, recolour
from opendimo.model.encoder.config import AugmentConfig

FRAME_SHARE = 0.1
"""Share of the warp that differs from frame to frame; the rest is constant over a clip, like another camera."""


def augment_driving(driving: Driving, config: AugmentConfig, seeds: Sequence[int]) -> Driving:
    """Augment the pixels of driving clips, on their device; hand crops get the warp and colours of the body crop.

    `seeds`: one per clip; a clip gets the same draws in any batch and on any device. A strength of 0 changes nothing.
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    # autocast would compute pixel coordinates in bfloat16, which has only 8 bits of precision
    with torch.autocast(driving.body.device.type, enabled=False):
        length = driving.body.shape[1]
        if config.perspective:
            share = 1.0 if config.per_frame else FRAME_SHARE
            warps = [random_homographies(1, length, config.perspective, generator, share) for generator in generators]
            body = torch.cat(warps).to(driving.body)  # [B, T, 3, 3]
            hands, boxes = follow(driving.hand_boxes, body)
            driving = replace(
                driving, body=warp(driving.body, body), hands=warp(driving.hands, hands), hand_boxes=boxes
            )
        if config.jitter:
            maps = [random_colours(1, config.jitter, generator) for generator in generators]
            colours = torch.cat(maps).to(driving.body)  # [B, 3, 4]
            driving = replace(driving, body=recolour(driving.body, colours), hands=recolour(driving.hands, colours))
    return driving


def random_homographies(
    clips: int, frames: int, strength: float, generator: torch.Generator, frame_share: float = FRAME_SHARE
) -> Tensor:
    """Draw warps [clips, frames, 3, 3] of the square [-1, 1] x [-1, 1] that move its corners by up to `strength`."""
    clip = 2 * torch.rand(clips, 1, 4, 2, generator=generator) - 1
    frame = 2 * torch.rand(clips, frames, 4, 2, generator=generator) - 1
    corners = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]).expand(clips, frames, 4, 2)
    return homography(corners, corners + strength * ((1 - frame_share) * clip + frame_share * frame))


def homography(source: Tensor, target: Tensor) -> Tensor:
    """Return the homography [..., 3, 3], with lower right element 1, through four point pairs [..., 4, 2] (x, y)."""
    (x, y), (u, v) = source.unbind(-1), target.unbind(-1)
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    # u (h6 x + h7 y + 1) = h0 x + h1 y + h2, and the same for v with h3..h5
    rows_u = torch.stack([x, y, one, zero, zero, zero, -u * x, -u * y], dim=-1)
    rows_v = torch.stack([zero, zero, zero, x, y, one, -v * x, -v * y], dim=-1)
    h = torch.linalg.solve(torch.cat([rows_u, rows_v], dim=-2), torch.cat([u, v], dim=-1))  # [..., 8]
    return torch.cat([h, torch.ones_like(h[..., :1])], dim=-1).unflatten(-1, (3, 3))


def follow(boxes: Tensor, homographies: Tensor) -> tuple[Tensor, Tensor]:
    """Compute how hand crops move when their body crop is warped.

    `boxes` [B, T, 2, 3] (centre x, y, half side) in body crops, `homographies` [B, T, 3, 3] as for `warp`. Returns
    homographies of the hand crops [B, T, 2, 3, 3] and their new boxes [B, T, 2, 3]. A new box is centred on the warped
    hand centre and scaled by the local magnification of the warp, so that the hand stays in its crop.
    """
    centre, half = boxes[..., :2], boxes[..., 2:]
    clamped = centre.clamp(-1, 1)  # a perspective may diverge far outside the crop: extrapolate from its border
    inverse = torch.linalg.inv(homographies)
    moved, depth = _project(inverse, clamped)  # [B, T, 2, 2], [B, T, 2, 1]
    # a projective map scales areas by det / depth^3
    scale = (torch.linalg.det(inverse)[..., None, None] / depth**3).abs().sqrt()  # [B, T, 2, 1]
    new_boxes = torch.cat([moved + scale * (centre - clamped), scale * half], dim=-1)  # [B, T, 2, 3]
    to_box = _placement(torch.cat([-centre, torch.ones_like(half)], dim=-1) / half)  # inverse of _placement(boxes)
    return to_box @ homographies[:, :, None] @ _placement(new_boxes), new_boxes


def _placement(boxes: Tensor) -> Tensor:
    """Return the maps [..., 3, 3] from coordinates in boxes [..., 3] to coordinates in the crop that contains them."""
    x, y, half = boxes.unbind(-1)
    one, zero = torch.ones_like(half), torch.zeros_like(half)
    return torch.stack([half, zero, x, zero, half, y, zero, zero, one], dim=-1).unflatten(-1, (3, 3))


def _project(homographies: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Map points [..., n, 2] by homographies [..., 3, 3]; return points [..., n, 2] and divisors [..., n, 1]."""
    h = homographies[..., None, :, :]
    # no matrix product: with TF32 its error would be a tenth of a pixel
    mapped = points[..., :1] * h[..., 0] + points[..., 1:] * h[..., 1] + h[..., 2]  # [..., n, 3]
    return mapped[..., :2] / mapped[..., 2:], mapped[..., 2:]


def warp(frames: Tensor, homographies: Tensor) -> Tensor:
    """Warp frames [..., 3, S, S] by homographies [..., 3, 3] from output to input coordinates; black outside."""
    size = frames.shape[-1]
    line = (torch.arange(size, device=frames.device, dtype=frames.dtype) * 2 + 1) / size - 1  # pixel centres
    points = torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1).flatten(0, 1)  # [S S, 2]
    grid, _ = _project(homographies.reshape(-1, 3, 3), points)  # [M, S S, 2]
    grid = grid.unflatten(1, (size, size))
    return grid_sample(frames.reshape(-1, *frames.shape[-3:]), grid, align_corners=False).view_as(frames)
