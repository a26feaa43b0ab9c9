"""A Wan VAE that begins as a thumbnailer: it averages pixels on the way in and interpolates on the way out.

From random weights a VAE needs minutes to show more than a mean colour. Wired like this it reconstructs a blurred video
before the first step, and what little training a demo affords goes into detail.

Both halves end in RMS norm, SiLU and a convolution, which is no obstacle to a signal x carried as three kinds of
channels: x, -x, and a constant. The norm divides by a length that the constant dominates, so that it is nearly linear,
and silu(x) - silu(-x) = x.
"""

from typing import cast

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from torch import Tensor, nn

COLOURS = 3
CONSTANT = 4.0  # large beside colours in [-1, 1]


@torch.no_grad()
def start_as_thumbnails(vae: AutoencoderKLWan) -> None:
    """Set the weights of `vae` in place. The first three latents are the colours; the others stay as they were."""
    for name, layer in vae.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.Conv3d)):
            _pass_on(name, layer)
    for half in (vae.encoder, vae.decoder):
        _split(half.conv_in)
        _join(half.conv_out)


def _pass_on(name: str, layer: nn.Conv2d | nn.Conv3d) -> None:
    """Every block in between hands on its channels as they are; residual branches begin at zero."""
    weight, encodes = layer.weight, name.startswith("encoder")
    if name.endswith(("conv2", "proj")):
        weight.zero_()
    elif "conv_shortcut" in name or "quant_conv" in name:
        nn.init.dirac_(weight)
    elif "time_conv" in name:  # the mean of two frames; the same frame twice (causal: the last tap is now)
        _diagonal(weight, torch.tensor([0, 0.5, 0.5] if encodes else [0, 0, 1.0]).view(3, 1, 1))
    elif "resample" in name:  # the mean of 2 x 2 pixels; bilinear, after doubling by nearest neighbour
        taps = torch.tensor([0.5, 0.5, 0] if encodes else [0.25, 0.5, 0.25])
        _diagonal(weight, torch.outer(taps, taps))
    else:
        return
    cast(Tensor, layer.bias).zero_()


def _diagonal(weight: Tensor, kernel: Tensor) -> None:
    """[out, in, ...]: output channel i applies `kernel` to input channel i, counted round."""
    weight.zero_()
    outputs = torch.arange(len(weight))
    weight[outputs, outputs % weight.shape[1]] = kernel


def _split(layer: nn.Conv3d) -> None:
    """Channels 0..2 are the colours, 3..5 their negatives, 6 the constant."""
    weight, bias = layer.weight, cast(Tensor, layer.bias)
    weight[: 2 * COLOURS + 1] = 0
    bias[: 2 * COLOURS] = 0
    bias[2 * COLOURS] = CONSTANT
    for colour in range(COLOURS):
        weight[colour, colour, -1, 1, 1] = 1
        weight[COLOURS + colour, colour, -1, 1, 1] = -1


def _join(layer: nn.Conv3d) -> None:
    """The colours again: the norm scaled them by about sqrt(channels) / CONSTANT."""
    weight, scale = layer.weight, CONSTANT / layer.in_channels**0.5
    weight[:COLOURS] = 0
    cast(Tensor, layer.bias)[:COLOURS] = 0
    for colour in range(COLOURS):
        weight[colour, colour, -1, 1, 1] = scale
        weight[colour, COLOURS + colour, -1, 1, 1] = -scale
