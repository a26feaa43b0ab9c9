"""Pictures in and out: the reference image, opened, turned upright and cut as training targets are; the video made."""

from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

OutputType = Literal["np", "pil", "pt", "latent"]


def open_image(image: Image.Image | str | Path) -> Image.Image:
    """An image, or the file it is in, upright in RGB. Raises `ValueError` where the file is missing or is no image."""
    if isinstance(image, (str, Path)):
        try:
            opened = Image.open(image)
            opened.load()
        except OSError as error:  # also of what is no image
            raise ValueError(f"{image}: not a readable image; give a PNG or JPEG of the person") from error
        image = opened
    return ImageOps.exif_transpose(image).convert("RGB")


def fitted(image: Image.Image, height: int, width: int) -> Tensor:
    """The largest centred cut of the shape asked for, resized: RGB [1, 3, 1, height, width] in [0, 1].

    The arithmetic of `storage_schemas.video.centre_crop`, which made the targets (a test compares the two).
    """
    pixels = np.asarray(image)  # [H, W, 3]
    h, w = pixels.shape[:2]
    cut_w, cut_h = min(w, round(h * width / height)), min(h, round(w * height / width))
    x, y = (w - cut_w) // 2, (h - cut_h) // 2
    how = cv2.INTER_AREA if width < cut_w else cv2.INTER_LINEAR
    cut = pixels[y : y + cut_h, x : x + cut_w]
    if (cut_w, cut_h) != (width, height):
        cut = cv2.resize(cut, (width, height), interpolation=how)
    return torch.from_numpy(np.array(cut)).permute(2, 0, 1)[None, :, None] / 255


def as_asked(video: Tensor, output_type: OutputType) -> NDArray[np.float32] | Tensor | list[list[Image.Image]]:
    """Decoded RGB [1, 3, T, H, W] -> np [1, T, H, W, 3], pt [1, T, 3, H, W], both in [0, 1], or pil."""
    video = video.float().clamp(0, 1).transpose(1, 2).cpu()
    if output_type == "pt":
        return video
    frames = video.permute(0, 1, 3, 4, 2).numpy()
    if output_type == "np":
        return frames
    return [[Image.fromarray(frame) for frame in (255 * frames[0]).round().astype(np.uint8)]]
