"""Numbers that describe a clip's pictures, measured on a few small frames a second. What they mean for a clip is
decided later (`pipelines/quality.py`)."""

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.people.boxes import Box

Gray = NDArray[np.uint8]  # [h, w]
HASH_SIDE = 8  # 64 bits


@dataclass
class Scores:
    """Scores of one clip, gathered frame by frame; lengths of motion are shares of the frame diagonal."""

    sharpness: list[float] = field(default_factory=list)
    exposure: list[float] = field(default_factory=list)
    motion: list[float] = field(default_factory=list)
    subject_motion: list[float] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)

    def add(self, gray: Gray, before: Gray | None, boxes: list[Box]) -> None:
        """Measure one frame. `before` is the frame just before it, `boxes` the people, in pixels of `gray`."""
        self.sharpness.append(float(cv2.Laplacian(gray, cv2.CV_32F).var()))
        self.exposure.append(float(gray.mean()) / 255)
        if before is not None:
            length = flow_length(before, gray)
            background = ~inside(boxes, gray.shape)
            self.motion.append(float(np.median(length[background] if background.any() else length)))
            if boxes:
                largest = max(boxes, key=lambda b: (b[2] - b[0]) * (b[3] - b[1]))
                self.subject_motion.append(float(length[inside([largest], gray.shape)].mean()))

    def medians(self) -> dict[str, float]:
        """The columns of a clip's row; 0 for motion where there is a single frame or nobody."""
        return {
            name: float(np.median(values)) if (values := getattr(self, name)) else 0.0
            for name in ("sharpness", "exposure", "motion", "subject_motion")
        }


def flow_length(before: Gray, after: Gray) -> NDArray[np.float32]:
    """Length of the optical flow at each pixel over the frame diagonal, [h, w] (DIS, arXiv 1603.03590)."""
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    images = np.ascontiguousarray(before), np.ascontiguousarray(after)
    flow = estimator.calc(*images, np.zeros((*before.shape, 2), np.float32))  # [h, w, 2]
    return np.asarray(np.linalg.norm(flow, axis=-1) / np.hypot(*before.shape), np.float32)


def inside(boxes: list[Box], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Pixels inside any of `boxes`, [h, w]."""
    mask = np.zeros(shape, bool)
    for x0, y0, x1, y1 in boxes:
        mask[int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))] = True
    return mask


def perceptual_hash(gray: Gray) -> str:
    """64-bit DCT hash in hex: the signs of the lowest frequencies about their median (Zauner 2010, pHash).

    Re-encoding and scaling change a few bits; another picture changes about half of them.
    """
    small = cv2.resize(gray, (4 * HASH_SIDE, 4 * HASH_SIDE), interpolation=cv2.INTER_AREA)
    low = cv2.dct(small.astype(np.float32))[:HASH_SIDE, :HASH_SIDE].ravel()
    bits = low > np.median(low[1:])  # the first is the mean of the picture
    return np.packbits(bits).tobytes().hex()
