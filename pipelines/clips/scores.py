"""Measure quality scores of clips on a few small frames per second.

Thresholds are applied later (`pipelines/quality/verdicts.py`).
"""

from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.people.boxes import Box

Gray = NDArray[np.uint8]  # [h, w]
HASH_SIDE = 8  # 64 bits
BLACK, WHITE = 20, 251  # grey levels up to, and from, which a pixel counts as clipped
MEANS = ("text_share", "hdr_share")
ZERO_WHERE_UNSEEN = ("motion", "subject_motion")


class Scores:
    """Collects scores of a shot frame by frame, and aggregates them over the span of a clip.

    Motion is in shares of the frame diagonal.
    """

    def __init__(self) -> None:
        self._samples: list[tuple[int, dict[str, float]]] = []

    def add(self, frame: int, gray: Gray, before: Gray | None, boxes: list[Box]) -> None:
        """Measure a frame. `before`: the previous frame. `boxes`: boxes of people, in pixels of `gray`."""
        laplacian = cv2.Laplacian(gray, cv2.CV_32F)
        values = {
            "sharpness": float(laplacian.var()),
            "exposure": float(gray.mean()) / 255,
            "clipping": float(((gray <= BLACK) | (gray >= WHITE)).mean()),
        }
        subject = inside([max(boxes, key=_area)], gray.shape) if boxes else None
        if subject is not None and subject.any():
            values["subject_sharpness"] = float(laplacian[subject].var())
        if before is not None:
            length = flow_length(before, gray)
            background = ~inside(boxes, gray.shape)
            values["motion"] = float(np.median(length[background] if background.any() else length))
            if subject is not None and subject.any():
                values["subject_motion"] = float(length[subject].mean())
        self.put(frame, **values)

    def put(self, frame: int, **values: float) -> None:
        """Add scores of a frame that were measured elsewhere."""
        self._samples.append((frame, values))

    def over(self, span: range) -> dict[str, float | None]:
        """Return the score columns of a clip with the frames of `span`: medians, or means of `MEANS`.

        Scores that were not measured are missing; motion is 0 if it could not be measured (a single frame, no person).
        """
        values_by_score: dict[str, list[float]] = {}
        for frame, values in self._samples:
            if frame in span:
                for name, value in values.items():
                    values_by_score.setdefault(name, []).append(value)
        columns: dict[str, Any] = dict.fromkeys(ZERO_WHERE_UNSEEN, 0.0)
        for name, listed in values_by_score.items():
            columns[name] = float(np.mean(listed) if name in MEANS else np.median(listed))
        return columns

    def forget(self, before: int) -> None:
        """Drop the samples before frame `before`."""
        self._samples = [sample for sample in self._samples if sample[0] >= before]


def flow_length(before: Gray, after: Gray) -> NDArray[np.float32]:
    """Return the optical flow's length at each pixel [h, w], as a share of the diagonal (DIS, arXiv 1603.03590)."""
    images = np.ascontiguousarray(before), np.ascontiguousarray(after)
    flow = _flow_estimator().calc(*images, np.zeros((*before.shape, 2), np.float32))  # [h, w, 2]
    return np.asarray(cv2.magnitude(flow[..., 0], flow[..., 1]) / np.float32(np.hypot(*before.shape)), np.float32)


@cache
def _flow_estimator() -> cv2.DISOpticalFlow:
    return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)


def _area(box: Box) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


def inside(boxes: list[Box], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return a mask [h, w] of the pixels inside any of `boxes`."""
    mask = np.zeros(shape, bool)
    for x0, y0, x1, y1 in boxes:
        mask[int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))] = True
    return mask


def perceptual_hash(gray: Gray) -> str:
    """Return a 64-bit DCT hash in hex: whether each low frequency is above their median (Zauner 2010, pHash).

    Re-encoding and scaling change a few bits; a different picture changes about half of them.
    """
    small = cv2.resize(gray, (4 * HASH_SIDE, 4 * HASH_SIDE), interpolation=cv2.INTER_AREA)
    low = cv2.dct(small.astype(np.float32))[:HASH_SIDE, :HASH_SIDE].ravel()
    bits = low > np.median(low[1:])  # exclude the first, the mean of the picture
    return np.packbits(bits).tobytes().hex()
