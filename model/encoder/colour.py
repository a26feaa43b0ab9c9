"""Colour jitter: one affine map of RGB per clip."""

import math

import torch
from torch import Tensor

_LUMA = [0.299, 0.587, 0.114]
_YIQ = torch.tensor([_LUMA, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
"""RGB to NTSC's luma and two chroma components: rotating the chroma rotates the hue and keeps the luma."""
_GREY = 0.5
"""Fixed point of contrast changes: a constant rather than the image mean, so that body and hand crops get one map."""


def random_colours(clips: int, strength: float, generator: torch.Generator) -> Tensor:
    """Draw maps [clips, 3, 4] of (R, G, B, 1); each of the four changes is uniform in [-strength, strength]."""
    return colour_map(strength * (2 * torch.rand(clips, 4, generator=generator) - 1))


def colour_map(changes: Tensor) -> Tensor:
    """Convert changes [..., 4] of brightness, contrast, saturation and hue to maps [..., 3, 4] of (R, G, B, 1).

    The first three are torchvision's factors minus 1; the hue rotates by half its change, in full turns.
    """
    brightness, contrast, saturation, hue = changes.unbind(-1)
    cosine, sine = ((1 + saturation) * f(math.pi * hue) for f in (torch.cos, torch.sin))
    one, zero = torch.ones_like(hue), torch.zeros_like(hue)
    turn = torch.stack([one, zero, zero, zero, cosine, -sine, zero, sine, cosine], dim=-1).unflatten(-1, (3, 3))
    colours = torch.linalg.inv(_YIQ) @ turn @ _YIQ  # [..., 3, 3]
    gain = ((1 + brightness) * (1 + contrast))[..., None, None]
    offset = ((1 + brightness) * -contrast * _GREY)[..., None, None].expand_as(colours[..., :1])
    return torch.cat([gain * colours, offset], dim=-1)


def recolour(clips: Tensor, colours: Tensor) -> Tensor:
    """Apply colour maps [B, 3, 4] to clips [B, ..., 3, S, S] in [0, 1]; the result is clamped to [0, 1]."""
    mixed = torch.einsum("bij,b...jhw->b...ihw", colours[..., :3], clips)
    return (mixed + colours[..., 3].reshape(-1, *[1] * (clips.ndim - 4), 3, 1, 1)).clamp(0, 1)
