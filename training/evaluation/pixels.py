"""SSIM, PSNR and LPIPS between a clip and the truth, both uint8 [T, H, W, 3]."""

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
"""Backbone by the number of tensors in `features` of torchvision's AlexNet and VGG-16."""


def ssim(clip: Frames, truth: Frames) -> float:
    """Return the structural similarity: Gaussian window of 11 pixels, sigma 1.5, mean over frames; 1 for equal clips.

    Raises `ValueError` if frames are smaller than the window.
    """
    if min(truth.shape[1:3]) < WINDOW:
        raise ValueError(
            f"SSIM needs frames of at least {WINDOW} x {WINDOW} pixels, got {truth.shape[2]} x {truth.shape[1]}"
        )
    maps = [_ssim_map(a, b) for a, b in zip(_chunks(clip), _chunks(truth), strict=True)]  # [n, 3, H, W] each
    # exclude windows that extend beyond the edge, as in the SSIM paper and in scikit-image
    inner = slice(WINDOW // 2, -(WINDOW // 2))
    return float(torch.cat([part[..., inner, inner].mean(dim=(1, 2, 3)) for part in maps]).double().mean())


def _ssim_map(clip: Tensor, truth: Tensor) -> Tensor:
    both = structural_similarity_index_measure(clip, truth, data_range=1.0, reduction="none", return_full_image=True)
    return cast(tuple[Tensor, Tensor], both)[1]


def psnr(clip: Frames, truth: Frames) -> float:
    """Return the peak signal-to-noise ratio in dB of the whole clip's mean squared error; infinite for equal clips."""
    error = sum(
        float(((a.double() - b.double()) ** 2).sum()) for a, b in zip(_chunks(clip), _chunks(truth), strict=True)
    )
    return -10 * float(np.log10(error / truth.size)) if error else float("inf")


def psnr_in_boxes(clip: Frames, truth: Frames, boxes: NDArray[np.floating]) -> float | None:
    """Return the PSNR inside `boxes` [T, 4] (x0, y0, x1, y1 in pixels; NaN: no box); None without pixels in boxes."""
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
    """LPIPS 0.1 with the linear layers included in torchmetrics, on a backbone from a file."""

    def __init__(self, weights: Path) -> None:
        """Load torchvision's state dict of AlexNet or VGG-16 (.pth or .safetensors).

        Raises `ValueError` for other files.
        """
        from opendimo.training.evaluation.weights import state_dict

        features = {k.removeprefix("features."): v for k, v in state_dict(weights).items() if k.startswith("features.")}
        if len(features) not in BACKBONES:
            raise ValueError(f"{weights}: LPIPS needs torchvision's state dict of AlexNet or VGG-16, with features.*")
        self._net = _LPIPS(net=cast(Any, BACKBONES[len(features)]), pnet_rand=True)
        _load_features(self._net.net, features, weights)
        self._net.to(usual_device())

    @torch.no_grad()
    def __call__(self, clip: Frames, truth: Frames) -> float:
        """Return the distance, mean over frames; 0 for equal clips."""
        values = [self._net(a, b, normalize=True).flatten() for a, b in zip(_chunks(clip), _chunks(truth), strict=True)]
        return float(torch.cat(values).double().mean())


def _load_features(net: nn.Module, features: dict[str, Tensor], weights: Path) -> None:
    """Load the layers of torchvision's `features` into the slices of the LPIPS net, which keep the layer numbers."""
    try:
        net.load_state_dict({name: features[name.split(".", 1)[1]] for name in net.state_dict()})
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"{weights}: not torchvision's state dict of AlexNet or VGG-16 ({error})") from error


def _chunks(frames: Frames) -> list[Tensor]:
    """Split frames into float tensors [n, 3, H, W] in [0, 1] on the device."""
    device = usual_device()
    parts = (frames[k : k + CHUNK] for k in range(0, len(frames), CHUNK))
    return [torch.from_numpy(np.ascontiguousarray(p)).to(device).permute(0, 3, 1, 2).float() / 255 for p in parts]
