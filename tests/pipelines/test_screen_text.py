"""Lines of text in a frame: subtitles are found, texture is not."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from opendimo.pipelines.clips.screen_text import text_share
from opendimo.storage_schemas.media import video


def subtitled(image: np.ndarray, colour: tuple[int, int, int], outline: int) -> np.ndarray:
    picture = Pillow.fromarray(image)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(image.shape[0] // 20)
    for line, text in enumerate(["I never said that you were wrong.", "What do you mean by that?"]):
        place = ((image.shape[1] - draw.textlength(text, font=font)) / 2, image.shape[0] * (0.84 + 0.07 * line))
        draw.text(place, text, fill=colour, font=font, stroke_width=outline, stroke_fill=(0, 0, 0))
    return np.asarray(picture)


@pytest.mark.parametrize("name", ["dance_balloon_static", "juggle_static_fullbody", "generated_dance_indoor"])
def test_subtitles_are_told_from_clean_pictures(data: Path, name: str) -> None:
    info = video.probe(data / f"internet/{name}.mp4")
    scale = 480 / min(info.width, info.height)
    size = round(info.width * scale), round(info.height * scale)
    clean = video.decode(data / f"internet/{name}.mp4", stop=61, step=30, size=size)

    def share(image: np.ndarray) -> float:
        return text_share(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))

    written = [share(subtitled(i, colour, 2)) for i in clean for colour in ((255, 255, 255), (255, 255, 0))]
    assert np.median(written) > 0.012 and max(share(image) for image in clean) < 0.008


def test_stripes_bricks_and_leaves_are_no_text() -> None:
    rng = np.random.default_rng(0)
    stripes = np.tile((np.arange(640) // 10 % 2 * 160 + 40).astype(np.uint8), (360, 1))
    bricks = np.full((360, 640), 150, np.uint8)
    bricks[::24] = bricks[:, ::48] = 60
    leaves = cv2.GaussianBlur(rng.normal(size=(360, 640)).astype(np.float32), (0, 0), 2)
    leaves = cv2.normalize(leaves, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    assert [text_share(picture) for picture in (stripes, bricks, leaves)] == [0, 0, 0]
