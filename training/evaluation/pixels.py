"""SSIM, PSNR and LPIPS of a clip against the truth, both uint8 [T, H, W, 3]."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchmetrics.functional.image import structural_similarity_index_measure
from torchmetrics.functional.image.lpips import _LPIPS

from opendimo.training.evaluation.weights import usual_device

Frames = NDArray[np.uint8]
WINDOW = 11  # pixels
CHUNK = 8  # frames at a time
BACKBONES = {10: "alex", 26: "vgg"}
"""Tensors of `features` in torchvision's AlexNet and VGG-16."""


def ssim(clip: Frames, truth: Frames) -> float:
    """Structural similarity, Gaussian window of 11 pixels and sigma 1.5, mean over frames; 1 for equal clips.

    Raises `ValueError` where frames are smaller than the window.
    """
    if min(truth.shape[1:3]) < WINDOW:
        raise ValueError(
            f"SSIM needs frames of {WINDOW} x {WINDOW} pixels or more, not {truth.shape[2]} x {truth.shape[1]}"
        )
    maps = [_ssim_map(a, b) for a, b in zip(_chunks(clip), _chunks(truth), strict=True)]  # [n, 3, H, W] each
    # windows that reach over the edge do not count, as in the paper of SSIM and in scikit-image
    inner = slice(WINDOW // 2, -(WINDOW // 2))
    return float(torch.cat([part[..., inner, inner].mean(dim=(1, 2, 3)) for part in maps]).double().mean())


def _ssim_map(clip: Tensor, truth: Tensor) -> Tensor:
    both = structural_similarity_index_measure(clip, truth, data_range=1.0, reduction="none", return_full_image=True)
    return cast(tuple[Tensor, Tensor], both)[1]


def psnr(clip: Frames, truth: Frames) -> float:
    """Peak signal-to-noise ratio in dB of the whole clip's mean squared error; infinite for equal clips."""
    error = sum(
        float(((a.double() - b.double()) ** 2).sum()) for a, b in zip(_chunks(clip), _chunks(truth), strict=True)
    )
    return -10 * float(np.log10(error / truth.size)) if error else float("inf")


def psnr_in_boxes(clip: Frames, truth: Frames, boxes: NDArray[np.floating]) -> float | None:
    """The same of what is in `boxes` [T, 4] (x0 y0 x1 y1 pixels, NaN: nothing) only; None where that is nothing."""
    error, count = 0.0, 0
    for a, b, box in zip(clip, truth, boxes, strict=True):
        if np.isfinite(box).all():
            x0, y0 = np.maximum(np.floor(box[:2]), 0).astype(int)
            x1, y1 = np.maximum(np.ceil(box[2:]), 0).astype(int)
            part = (a[y0:y1, x0:x1].astype(np.float64) - b[y0:y1, x0:x1]) / 255
            error, count = error + float((part**2).sum()), count + part.size
    if not count:
        return None
    return -10 * float(np.log10(error / count)) if error else float("inf")


class Lpips:
    """LPIPS 0.1 with the linear layers that come with torchmetrics, on a backbone from a file."""

    def __init__(self, weights: Path) -> None:
        """`weights`: torchvision's state dict of AlexNet or VGG-16 (.pth or .safetensors).

        Raises `ValueError` for a file that is neither.
        """
        from opendimo.training.evaluation.weights import state_dict

        given = {k.removeprefix("features."): v for k, v in state_dict(weights).items() if k.startswith("features.")}
        if len(given) not in BACKBONES:
            raise ValueError(f"{weights}: LPIPS needs torchvision's state dict of AlexNet or VGG-16, with features.*")
        self._net = _LPIPS(net=cast(Any, BACKBONES[len(given)]), pnet_rand=True)
        _fill(self._net.net, given, weights)
        self._net.to(usual_device())

    @torch.no_grad()
    def __call__(self, clip: Frames, truth: Frames) -> float:
        """Distance, mean over frames; 0 for equal clips."""
        values = [self._net(a, b, normalize=True).flatten() for a, b in zip(_chunks(clip), _chunks(truth), strict=True)]
        return float(torch.cat(values).double().mean())


def _fill(net: nn.Module, given: dict[str, Tensor], weights: Path) -> None:
    """Load `features` by number into slices of them, which keep these numbers."""
    try:
        net.load_state_dict({name: given[name.split(".", 1)[1]] for name in net.state_dict()})
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"{weights}: not torchvision's state dict of AlexNet or VGG-16 ({error})") from error


def _chunks(frames: Frames) -> list[Tensor]:
    """[n, 3, H, W] in [0, 1] each."""
    device = usual_device()
    parts = (frames[k : k + CHUNK] for k in range(0, len(frames), CHUNK))
    return [torch.from_numpy(np.ascontiguousarray(p)).to(device).permute(0, 3, 1, 2).float() / 255 for p in parts]
