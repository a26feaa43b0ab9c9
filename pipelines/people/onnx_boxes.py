"""Detect people with an object detector in an ONNX file: RTMDet or YOLOX, in the layouts in which they are exported.

| outputs | what they are | exported by |
|---|---|---|
| [N, A, 5 + C] | YOLOX: centre, size, objectness, classes; relative to the grid or in pixels | Megvii |
| [N, K, 5], [N, K] | boxes with scores after NMS, and their classes | MMDeploy, with NMS |
| [N, A, 4], [N, A, C] | boxes, and their scores by class | MMDeploy, without NMS |

Boxes are corners in pixels of the input [N, 3, height, width], which shows the picture at its top left, scaled to fit,
and grey elsewhere. Class 0 is the person, as in COCO.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.engine.device import gpus_for

Image = NDArray[np.uint8]  # [H, W, 3] RGB
Boxes = NDArray[np.float32]  # [n, 5]: x0 y0 x1 y1 in pixels, score
Array = NDArray[np.float32]

GREY = 114  # of the padding, in both trainings
STRIDES = (8, 16, 32)  # of YOLOX's grids, pixels
SIDE = 640  # of inputs without a fixed size
MAX_OVERLAP = 0.6  # largest IoU of two people
MEAN = np.array([103.53, 116.28, 123.675], np.float32)  # of RTMDet's training, BGR
DEVIATION = np.array([57.375, 57.12, 58.395], np.float32)
KINDS = ("rtmdet", "yolox")


@dataclass(frozen=True)
class OnnxConfig:
    """A person detector in an ONNX file, which needs the package onnxruntime.

    `path`: the file. `kind`: rtmdet or yolox, which decides the normalisation of the input; by default by the layout or
    the name of the file. `min_score`: least score of a person, 0 to 1. `batch`: frames per call, if the file permits
    more than one. `device`: cpu or cuda.
    """

    path: str
    kind: str | None = None
    min_score: float = 0.5
    batch: int = 8
    device: str = "cpu"


class OnnxBoxes:
    """A loaded detector. `batch`: frames per call."""

    def __init__(self, config: OnnxConfig) -> None:
        """Load the file and try it on a plain picture.

        Raises `ValueError` if onnxruntime, the file or the device is missing, or if the layout is another one.
        """
        self._config = config
        self._session = _session(config)
        given = self._session.get_inputs()
        if len(given) != 1 or len(given[0].shape) != 4 or given[0].shape[1] != 3:
            raise ValueError(f"{config.path}: the input is not [N, 3, height, width] but {_shapes(given)}")
        self._name, shape = given[0].name, given[0].shape
        self._type = np.float16 if given[0].type == "tensor(float16)" else np.float32
        self._height, self._width = (side if isinstance(side, int) else SIDE for side in shape[2:])
        self._fixed = shape[0] if isinstance(shape[0], int) else None
        self.batch = self._fixed or config.batch
        outputs = self._run(np.full((1, 3, self._height, self._width), GREY, np.float32))
        self._kind, self._in_pixels = self._layout(outputs)

    def detect(self, images: Sequence[Image]) -> list[Boxes]:
        """Return the boxes of the people in each of `images`, the best first."""
        found: list[Boxes] = []
        for first in range(0, len(images), self.batch):
            few = images[first : first + self.batch]
            inputs, scales = zip(*(self._letterboxed(image) for image in few), strict=True)
            outputs = self._run(np.stack(inputs))
            for k, (image, scale) in enumerate(zip(few, scales, strict=True)):
                boxes = self._people([output[k] for output in outputs])
                boxes[:, :4] = np.clip(boxes[:, :4] / scale, 0, np.tile(image.shape[1::-1], 2))
                found.append(boxes[(boxes[:, 2:4] - boxes[:, :2] > 1).all(1)])
        return found

    def _letterboxed(self, image: Image) -> tuple[Array, float]:
        """Return the input [3, height, width] for a picture, and the pixels of the input per pixel of the picture."""
        scale = min(self._height / image.shape[0], self._width / image.shape[1])
        size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        padded = np.full((self._height, self._width, 3), GREY, np.float32)
        padded[: size[1], : size[0]] = cv2.resize(image, size, interpolation=way)[..., ::-1]
        if self._kind == "rtmdet":
            padded = (padded - MEAN) / DEVIATION
        return padded.transpose(2, 0, 1), scale

    def _run(self, inputs: Array) -> list[Array]:
        """Return the outputs for `inputs` [n, 3, height, width]; a file with a fixed batch gets that many."""
        missing = (self._fixed or len(inputs)) - len(inputs)
        padded = np.concatenate([inputs, np.repeat(inputs[-1:], missing, 0)]) if missing else inputs
        outputs = self._session.run(None, {self._name: np.ascontiguousarray(padded, self._type)})
        return [np.asarray(output, np.float32) for output in outputs]

    def _layout(self, outputs: list[Array]) -> tuple[str, bool]:
        """Return rtmdet or yolox, and whether YOLOX's boxes are in pixels already."""
        config, shapes = self._config, [output.shape for output in outputs]
        if config.kind is not None and config.kind not in KINDS:
            raise ValueError(f"{config.path}: kind is {config.kind!r}, not rtmdet or yolox")
        if len(shapes) == 1 and len(shapes[0]) == 3 and shapes[0][2] > 5:
            grid = self._grid()
            if shapes[0][1] != len(grid) or config.kind == "rtmdet":
                raise ValueError(
                    f"{config.path}: the output {list(shapes[0])} is not that of YOLOX, {[1, len(grid), '5 + C']} "
                    f"for an input of {self._height} x {self._width}, or of RTMDet, which has two outputs"
                )
            centres = outputs[0][0, :, :2]
            to_cells = np.abs(centres - (grid[:, :2] + 0.5) * grid[:, 2:]).mean()
            return "yolox", bool(to_cells < np.abs(centres).mean())
        ends = [shape[2:] for shape in shapes]
        if len(shapes) != 2 or shapes[0][:2] != shapes[1][:2] or ends not in ([(5,), ()], [(4,), ends[-1]]):
            listed = ", ".join(str(list(shape)) for shape in shapes)
            raise ValueError(
                f"{config.path}: the outputs {listed} are not those of RTMDet or YOLOX: [N, A, 5 + C], [N, K, 5] and "
                "[N, K], or [N, A, 4] and [N, A, C]"
            )
        named = [kind for kind in KINDS if re.search(kind, Path(config.path).name, re.IGNORECASE)]
        if config.kind is None and len(named) != 1:
            raise ValueError(f"{config.path}: say kind = 'rtmdet' or 'yolox': both are exported with these outputs")
        return config.kind or named[0], True

    def _people(self, outputs: list[Array]) -> Boxes:
        """Return the boxes of people [n, 5] in one picture, in pixels of the input."""
        if len(outputs) == 1:
            corners, scores = self._corners(outputs[0][:, :4]), outputs[0][:, 4] * outputs[0][:, 5]
        elif outputs[1].ndim == 1:
            corners, scores = outputs[0][:, :4], np.where(outputs[1] == 0, outputs[0][:, 4], 0)
        else:
            corners, scores = outputs[0], outputs[1][:, 0]
        chosen = scores >= self._config.min_score
        corners, scores = corners[chosen], scores[chosen]
        sizes = corners[:, 2:] - corners[:, :2]
        kept = cv2.dnn.NMSBoxes(np.concatenate([corners[:, :2], sizes], 1).tolist(), scores.tolist(), 0.0, MAX_OVERLAP)
        order = np.asarray(kept, np.int64).ravel()
        return np.concatenate([corners, scores[:, None]], 1)[order].astype(np.float32)

    def _corners(self, boxes: Array) -> Array:
        centres, sizes = boxes[:, :2], boxes[:, 2:]
        if not self._in_pixels:
            grid = self._grid()
            centres, sizes = (centres + grid[:, :2]) * grid[:, 2:], np.exp(np.minimum(sizes, 20)) * grid[:, 2:]
        return np.concatenate([centres - sizes / 2, centres + sizes / 2], 1)

    def _grid(self) -> Array:
        """Return column, row and stride of each of YOLOX's cells [A, 3]."""
        cells = []
        for stride in STRIDES:
            y, x = np.mgrid[: self._height // stride, : self._width // stride]
            cells.append(np.stack([x.ravel(), y.ravel(), np.full(x.size, stride)], 1))
        return np.concatenate(cells).astype(np.float32)


def _session(config: OnnxConfig) -> Any:
    if not Path(config.path).is_file():
        raise ValueError(f"no ONNX file at {config.path}")
    try:
        import onnxruntime
    except ImportError as error:
        raise ValueError("a detector in an ONNX file needs onnxruntime: pip install 'opendimo[onnx]'") from error
    gpus_for(config.device)  # refuses other devices
    providers = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
    if (provider := providers[config.device]) not in onnxruntime.get_available_providers():
        raise ValueError(f"this onnxruntime has no {provider}: install onnxruntime-gpu instead, or use the cpu")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # a worker has one processor
    try:
        session = onnxruntime.InferenceSession(config.path, options, providers=[provider])
    except Exception as error:  # onnxruntime has a class of its own for each reason
        raise ValueError(f"{config.path} cannot be loaded: {error}") from error
    if provider not in session.get_providers():  # it falls back to the CPU with a log line only
        raise ValueError(f"{config.path}: {provider} does not work here: check the driver and its libraries")
    return session


def _shapes(values: Sequence[Any]) -> str:
    return ", ".join(f"{value.name} {value.shape}" for value in values)
