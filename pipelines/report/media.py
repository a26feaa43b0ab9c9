"""Store pictures, videos and scripts next to the pages, named by a hash of their content: each is rendered once."""

import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from opendimo.storage_schemas.ids import sha256_bytes, stable_id
from opendimo.storage_schemas.lake.files import write_bytes

RENDERING = "2"
"""Version of the rendering: increment it when the look of media changes."""
OURS = re.compile(r"[0-9a-f]{32}\.(jpg|mp4|js)")
JPEG_QUALITY = 82


class Media:
    """The folder `media` next to the pages. Links are relative to them."""

    def __init__(self, page_folder: Path) -> None:
        self.folder = page_folder / "media"
        self._used: set[str] = set()

    def picture(self, content: object, make: Callable[[], NDArray[np.uint8]]) -> str:
        """Return the link of the JPEG for `content`; calls `make` for its pixels [H, W, 3] RGB if it does not exist."""
        return self._file(content, "jpg", lambda: jpeg(make()))

    def video(self, content: object, make: Callable[[], bytes]) -> str:
        """Return the link of the MP4 for `content`; calls `make` for its bytes if it does not exist."""
        return self._file(content, "mp4", make)

    def script(self, code: bytes) -> str:
        """Store JavaScript and return its link."""
        return self._file(sha256_bytes(code), "js", lambda: code)

    def prune(self) -> None:
        """Delete media that these pages do not show, including clips taken down since the previous report."""
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
    """Encode [H, W, 3] RGB as JPEG bytes."""
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY, cv2.IMWRITE_JPEG_PROGRESSIVE, 1]
    return cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1].tobytes()
