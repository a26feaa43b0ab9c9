"""Image input and output: load and crop the reference image as training targets are, convert the generated video."""

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
    """Return an image, or load it from a file, as upright RGB (EXIF orientation applied).

    Transparent parts become white, and 16 bits are scaled to 8. Raises `ValueError` if the file is missing or not an
    image.
    """
    if isinstance(image, (str, Path)):
        try:
            opened = Image.open(image)
            opened.load()
        except OSError as error:  # also raised if the file is not an image
            raise ValueError(f"{image}: not a readable image; give a PNG or JPEG of the person") from error
        image = opened
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits; Pillow would clip them
        values = np.asarray(image).astype(np.float64)
        image = Image.fromarray((values / (257 if values.max() > 255 else 1)).round().clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def fitted(image: Image.Image, height: int, width: int) -> Tensor:
    """Crop the largest centred region of the target aspect ratio and resize it: RGB [1, 3, 1, height, width] in [0, 1].

    Uses the same arithmetic as `storage_schemas.media.video.centre_crop`, which crops training targets (tested).
    """
    pixels = np.asarray(image)  # [H, W, 3]
    h, w = pixels.shape[:2]
    cut_w, cut_h = min(w, round(h * width / height)), min(h, round(w * height / width))
    x, y = (w - cut_w) // 2, (h - cut_h) // 2
    interpolation = cv2.INTER_AREA if width < cut_w else cv2.INTER_LINEAR
    cut = pixels[y : y + cut_h, x : x + cut_w]
    if (cut_w, cut_h) != (width, height):
        cut = cv2.resize(cut, (width, height), interpolation=interpolation)
    return torch.from_numpy(np.array(cut)).permute(2, 0, 1)[None, :, None] / 255


def as_asked(video: Tensor, output_type: OutputType) -> NDArray[np.float32] | Tensor | list[list[Image.Image]]:
    """Convert decoded RGB [V, 3, T, H, W] to np [V, T, H, W, 3] or pt [V, T, 3, H, W], both in [0, 1], or pil."""
    video = video.float().clamp(0, 1).transpose(1, 2).cpu()
    if output_type == "pt":
        return video
    frames = video.permute(0, 1, 3, 4, 2).numpy()
    if output_type == "np":
        return frames
    return [[Image.fromarray(frame) for frame in one] for one in (255 * frames).round().astype(np.uint8)]
