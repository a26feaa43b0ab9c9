"""RTMW (133 COCO-WholeBody points) through `rtmlib` as a landmark back end.

It gives no depth, so it can only be used with several calibrated views.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.poses.landmarks import Landmarks, Rtmlib

# COCO-WholeBody: 17 body points, 6 foot points, 68 face points, 21 left and 21 right hand points
BODY_OF_COCO = {
    0: 0, 1: 2, 2: 5, 3: 7, 4: 8, 5: 11, 6: 12, 7: 13, 8: 14, 9: 15, 10: 16, 11: 23, 12: 24, 13: 25, 14: 26, 15: 27,
    16: 28, 17: 31, 19: 29, 20: 32, 22: 30,
}  # fmt: skip
"""COCO-WholeBody index -> MediaPipe body index; in both, left and right are the person's own."""
LEFT_HAND, RIGHT_HAND = 91, 112
POINTS = 133
HAND_SEEN = 0.3
"""Minimum median score of a detected hand."""


class WholeBody:
    """An RTMW model. Raises `ValueError` if `rtmlib` or the weights are missing."""

    def __init__(self, config: Rtmlib) -> None:
        try:
            from rtmlib import RTMPose
        except ImportError as error:
            raise ValueError("the rtmlib back end needs the packages rtmlib and onnxruntime: install them") from error
        if not Path(config.model).is_file():
            raise ValueError(f"no RTMW weights at {config.model}: give the path of the .onnx file")
        self._model = RTMPose(
            config.model, model_input_size=(config.input_width, config.input_height), device=config.device
        )
        _check(self._model.session, config)

    def start(self) -> None:
        """Do nothing: frames are independent of each other."""

    def see(self, window: NDArray[np.uint8], found: Landmarks, t: int) -> None:
        """Fill in frame `t` of `found` from `window` [h, w, 3] RGB, in window pixels."""
        rows, columns = np.nonzero(window.any(2))  # the rest of the window is blacked out
        if not len(rows):
            return
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        keypoints, scores_of = self._model(window[..., ::-1], bboxes=[box])
        points, scores = np.asarray(keypoints)[0], np.asarray(scores_of)[0]  # [133, 2], [133]
        coco, body = list(BODY_OF_COCO), list(BODY_OF_COCO.values())
        found.body[t, body, :2], found.body[t, body, 3] = points[coco], scores[coco].clip(0, 1)
        found.body_found[t] = True
        for side, first in enumerate((LEFT_HAND, RIGHT_HAND)):
            hand = slice(first, first + 21)
            found.hands[t, side, :, :2], found.hands[t, side, :, 3] = points[hand], scores[hand].clip(0, 1)
            found.hands_found[t, side] = np.median(scores[hand]) > HAND_SEEN


def _check(session: Any, config: Rtmlib) -> None:
    """Raise `ValueError` if an ONNX model has not the input size of the config, or not the outputs of RTMW."""
    outputs = [output.shape for output in session.get_outputs()]
    if len(outputs) != 2 or any(len(shape) != 3 or shape[1] != POINTS for shape in outputs):
        raise ValueError(
            f"{config.model}: not an RTMW model: its outputs are {outputs}, expected two of {POINTS} points"
        )
    height, width = session.get_inputs()[0].shape[-2:]
    if isinstance(height, int) and (width, height) != (config.input_width, config.input_height):
        raise ValueError(
            f"{config.model} takes {width} x {height}, not {config.input_width} x {config.input_height}: "
            "set input_width and input_height"
        )
