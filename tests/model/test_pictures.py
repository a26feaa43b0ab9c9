"""Reference images of all kinds become RGB as a viewer shows them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from opendimo.model.pipeline.pictures import open_image

RED = (200, 30, 30)


def colours(image: Image.Image) -> list[tuple[int, ...]]:
    """Return the colours of the left and the right pixel."""
    return [tuple(int(v) for v in pixel) for pixel in np.asarray(image)[0]]


def test_transparent_parts_become_white(tmp_path: Path) -> None:
    """The colour under full transparency is not shown."""
    pixels = np.array([[(*RED, 255), (255, 0, 255, 0)]], np.uint8)
    Image.fromarray(pixels, "RGBA").save(tmp_path / "a.png")
    assert colours(open_image(tmp_path / "a.png")) == [RED, (255, 255, 255)]


def test_a_palette_with_a_transparent_colour_becomes_white(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    image.putpalette([*RED, 255, 0, 255])
    image.save(tmp_path / "a.png", transparency=1)
    assert colours(open_image(tmp_path / "a.png")) == [RED, (255, 255, 255)]


def test_grey_with_alpha_becomes_white(tmp_path: Path) -> None:
    Image.fromarray(np.array([[(90, 255), (0, 0)]], np.uint8), "LA").save(tmp_path / "a.png")
    assert colours(open_image(tmp_path / "a.png")) == [(90, 90, 90), (255, 255, 255)]


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_sixteen_bits_are_scaled(dtype: type, tmp_path: Path) -> None:
    Image.fromarray(np.array([[65535, 257 * 90]], dtype)).save(tmp_path / "a.png")
    assert colours(open_image(tmp_path / "a.png")) == [(255, 255, 255), (90, 90, 90)]


def test_cmyk_is_converted() -> None:
    assert colours(open_image(Image.fromarray(np.zeros((1, 2, 4), np.uint8), "CMYK"))) == [(255, 255, 255)] * 2


def test_the_example_shows_no_hidden_magenta(data: Path) -> None:
    pixels = np.asarray(open_image(data / "wild/references/alpha_magenta.png")).astype(int)
    assert ((pixels[..., 0] > 200) & (pixels[..., 1] < 60) & (pixels[..., 2] > 200)).mean() < 0.001
