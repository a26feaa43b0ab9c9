"""Augmentation of driving frames, on pixels and before the encoder: what is left in common is the motion.

3DiMo warps driving frames by random perspectives, which stand in for other cameras, and jitters colours, so that
appearance cannot leak into the tokens. Strengths are not published [ours].
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import grid_sample
from torchvision.transforms.v2 import functional as colour

from model.batch import Driving

FRAME_SHARE = 0.1
"""Share of the warp that differs from frame to frame; the rest is one warp a clip, as another camera would be."""


@dataclass(frozen=True)
class AugmentConfig:
    """`perspective`: how far a corner moves at most, as a share of half a side. `jitter`: how far brightness, contrast
    and saturation factors are from 1 at most; hues turn by half that share of a turn."""

    perspective: float = 0.3
    jitter: float = 0.3


def augment_driving(driving: Driving, config: AugmentConfig, generator: torch.Generator) -> Driving:
    """The driving clips with other pixels; the same generator state gives the same result."""
    settings = {"perspective": config.perspective, "jitter": config.jitter, "generator": generator}
    hands = augment(driving.hands.flatten(1, 2), **settings).view_as(driving.hands)  # [B, T 2, 3, s, s]
    return replace(driving, body=augment(driving.body, **settings), hands=hands)


def augment(frames: Tensor, *, perspective: float, jitter: float, generator: torch.Generator) -> Tensor:
    """Warps and recolours clips [B, T, 3, S, S] in [0, 1]; the same generator state gives the same result.

    `perspective`: how far a corner moves at most, as a share of half a side. `jitter`: how far brightness, contrast and
    saturation factors are from 1 at most; hues turn by half that share of a turn. Zero leaves frames as they are.
    """
    if perspective:
        clips, length = frames.shape[:2]
        frames = warp(frames, random_homographies(clips, length, perspective, generator).to(frames))
    if jitter:
        draws = 2 * jitter * torch.rand(len(frames), 4, generator=generator) - jitter  # [B, 4]
        frames = torch.stack([_recolour(clip, *draw) for clip, draw in zip(frames, draws.tolist(), strict=True)])
    return frames


def _recolour(clip: Tensor, brightness: float, contrast: float, saturation: float, hue: float) -> Tensor:
    clip = colour.adjust_brightness(clip, 1 + brightness)
    clip = colour.adjust_contrast(clip, 1 + contrast)
    clip = colour.adjust_saturation(clip, 1 + saturation)
    return colour.adjust_hue(clip, hue / 2)


def random_homographies(clips: int, frames: int, strength: float, generator: torch.Generator) -> Tensor:
    """[clips, frames, 3, 3] warps of the square [-1, 1] x [-1, 1] that move its corners by up to `strength`."""
    clip = 2 * torch.rand(clips, 1, 4, 2, generator=generator) - 1
    frame = 2 * torch.rand(clips, frames, 4, 2, generator=generator) - 1
    corners = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]).expand(clips, frames, 4, 2)
    return homography(corners, corners + strength * ((1 - FRAME_SHARE) * clip + FRAME_SHARE * frame))


def homography(source: Tensor, target: Tensor) -> Tensor:
    """The projective map through four point pairs [..., 4, 2] (x, y) -> [..., 3, 3] with lower right element 1."""
    (x, y), (u, v) = source.unbind(-1), target.unbind(-1)
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    # u (h6 x + h7 y + 1) = h0 x + h1 y + h2, and the same for v with h3..h5
    rows_u = torch.stack([x, y, one, zero, zero, zero, -u * x, -u * y], dim=-1)
    rows_v = torch.stack([zero, zero, zero, x, y, one, -v * x, -v * y], dim=-1)
    h = torch.linalg.solve(torch.cat([rows_u, rows_v], dim=-2), torch.cat([u, v], dim=-1))  # [..., 8]
    return torch.cat([h, torch.ones_like(h[..., :1])], dim=-1).unflatten(-1, (3, 3))


def warp(frames: Tensor, homographies: Tensor) -> Tensor:
    """Frames [B, T, 3, S, S] seen through homographies [B, T, 3, 3] of output to input points; black outside."""
    size = frames.shape[-1]
    line = (torch.arange(size, device=frames.device, dtype=frames.dtype) * 2 + 1) / size - 1  # centres of pixels
    points = torch.stack([*torch.meshgrid(line, line, indexing="xy"), torch.ones(size, size).to(frames)], dim=-1)
    mapped = points.flatten(0, 1) @ homographies.flatten(0, 1).transpose(1, 2)  # [B T, S S, 3]
    grid = (mapped[..., :2] / mapped[..., 2:]).unflatten(1, (size, size))
    return grid_sample(frames.flatten(0, 1), grid, align_corners=False).view_as(frames)
