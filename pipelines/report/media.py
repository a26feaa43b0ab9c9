"""Pictures and videos beside the page, named by what they show, so that none is rendered twice."""

import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from opendimo.storage_schemas.ids import stable_id
from opendimo.storage_schemas.lake.files import write_bytes

RENDERING = "2"
"""Version of how media look: raise it when they change."""
OURS = re.compile(r"[0-9a-f]{32}\.(jpg|mp4)")
JPEG_QUALITY = 82


class Media:
    """The folder `media` of a page. Links are relative to the page."""

    def __init__(self, page_folder: Path) -> None:
        self.folder = page_folder / "media"
        self._used: set[str] = set()

    def picture(self, content: object, make: Callable[[], NDArray[np.uint8]]) -> str:
        """Link of the JPEG of `content`; `make` gives its pixels [H, W, 3] RGB where it does not exist yet."""
        return self._file(content, "jpg", lambda: jpeg(make()))

    def video(self, content: object, make: Callable[[], bytes]) -> str:
        """Link of the MP4 of `content`; `make` gives its bytes where it does not exist yet."""
        return self._file(content, "mp4", make)

    def prune(self) -> None:
        """Remove what this page does not show: also clips that were taken down since the page before."""
        for path in self.folder.glob("*"):
            if OURS.fullmatch(path.name) and path.name not in self._used:
                path.unlink()

    def _file(self, content: object, suffix: str, make: Callable[[], bytes]) -> str:
        name = f"{stable_id('report', RENDERING, content)}.{suffix}"
        if not (self.folder / name).exists():
            write_bytes(self.folder / name, make())
        self._used.add(name)
        return f"media/{name}"


def jpeg(image: NDArray[np.uint8]) -> bytes:
    """[H, W, 3] RGB -> JPEG bytes."""
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY, cv2.IMWRITE_JPEG_PROGRESSIVE, 1]
    return cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1].tobytes()
