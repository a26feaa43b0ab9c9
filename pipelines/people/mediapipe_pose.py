"""Run MediaPipe's person detector and landmark model on images, with the weights from its wheel.

The packaged solution tracks a single person. Here its two parts are used separately: the detector (an SSD that returns
several people) and the landmark model, which confirms a person in a region and returns the landmarks of the whole body.
The parameters of the graphs are those published with the models (BlazePose, arXiv 2006.10204).
"""

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
WEIGHTS = f"mediapipe {version('mediapipe')} pose_detection, pose_landmark_full"
"""Identity of the weights, which come with the wheel of this version."""

_DETECTOR = """
input_stream: "image"
output_stream: "detections"
node {
  calculator: "ImageToTensorCalculator"
  input_stream: "IMAGE:image" output_stream: "TENSORS:input" output_stream: "LETTERBOX_PADDING:padding"
  options { [mediapipe.ImageToTensorCalculatorOptions.ext] {
    output_tensor_width: 224 output_tensor_height: 224 keep_aspect_ratio: true
    output_tensor_float_range { min: -1 max: 1 } border_mode: BORDER_ZERO } }
}
node {
  calculator: "InferenceCalculator"
  input_stream: "TENSORS:input" output_stream: "TENSORS:output"
  options { [mediapipe.InferenceCalculatorOptions.ext] {
    model_path: "mediapipe/modules/pose_detection/pose_detection.tflite"
    delegate { xnnpack { num_threads: 1 } } } }
}
node {
  calculator: "SsdAnchorsCalculator"
  output_side_packet: "anchors"
  options { [mediapipe.SsdAnchorsCalculatorOptions.ext] {
    num_layers: 5 min_scale: 0.1484375 max_scale: 0.75 input_size_width: 224 input_size_height: 224
    anchor_offset_x: 0.5 anchor_offset_y: 0.5 strides: [8, 16, 32, 32, 32]
    aspect_ratios: 1.0 fixed_anchor_size: true } }
}
node {
  calculator: "TensorsToDetectionsCalculator"
  input_stream: "TENSORS:output" input_side_packet: "ANCHORS:anchors" output_stream: "DETECTIONS:raw"
  options { [mediapipe.TensorsToDetectionsCalculatorOptions.ext] {
    num_classes: 1 num_boxes: 2254 num_coords: 12 box_coord_offset: 0
    keypoint_coord_offset: 4 num_keypoints: 4 num_values_per_keypoint: 2
    sigmoid_score: true score_clipping_thresh: 100 reverse_output_order: true
    x_scale: 224 y_scale: 224 w_scale: 224 h_scale: 224 min_score_thresh: MIN_SCORE } }
}
node {
  calculator: "NonMaxSuppressionCalculator"
  input_stream: "raw" output_stream: "distinct"
  options { [mediapipe.NonMaxSuppressionCalculatorOptions.ext] {
    min_suppression_threshold: 0.3 overlap_type: INTERSECTION_OVER_UNION algorithm: WEIGHTED } }
}
node {
  calculator: "DetectionLetterboxRemovalCalculator"
  input_stream: "DETECTIONS:distinct" input_stream: "LETTERBOX_PADDING:padding"
  output_stream: "DETECTIONS:detections"
}
"""

_LANDMARKER = """
input_stream: "image"
input_stream: "region"
input_side_packet: "complexity"
output_stream: "landmarks"
output_stream: "alignment"
node {
  calculator: "PoseLandmarkByRoiCpu"
  input_stream: "IMAGE:image" input_stream: "ROI:region" input_side_packet: "MODEL_COMPLEXITY:complexity"
  output_stream: "LANDMARKS:landmarks" output_stream: "AUXILIARY_LANDMARKS:alignment"
}
"""


@dataclass(frozen=True)
class Region:
    """Region of a person. `centre`: the hips, x, y pixels. `tip`: a point above the head such that the circle about
    `centre` through `tip` contains the whole body. The direction from `centre` to `tip` is the body's up direction."""

    centre: tuple[float, float]
    tip: tuple[float, float]
    score: float

    @property
    def radius(self) -> float:
        """Radius of the circle that contains the body, pixels."""
        return float(np.hypot(self.tip[0] - self.centre[0], self.tip[1] - self.centre[1]))

    def moved(self, motion: NDArray[np.float64]) -> "Region":
        """Return the region moved by the similarity `motion` [2, 3], for example from tile to frame coordinates."""
        (cx, cy), (tx, ty) = np.array([self.centre, self.tip]) @ motion[:, :2].T + motion[:, 2]
        return Region((float(cx), float(cy)), (float(tx), float(ty)), self.score)


@dataclass(frozen=True, eq=False)
class Body:
    """A confirmed person: 33 `landmarks` (x, y pixels, visibility 0 to 1) and the `region` to search next."""

    landmarks: NDArray[np.float32]  # [33, 3]
    region: Region


class MediaPipePose:
    """The person detector and the landmark model, loaded in this process."""

    def __init__(self, min_score: float) -> None:
        """`min_score`: detections below it are dropped, 0 to 1."""
        self._detector = _graph(_DETECTOR.replace("MIN_SCORE", repr(float(min_score))))
        self._landmarker = _graph(_LANDMARKER, {"complexity": 1})

    def detect(self, image: Image) -> list[Region]:
        """Detect people in `image` [H, W, 3] RGB who fill at least a quarter of it."""
        height, width = image.shape[:2]
        detections = self._detector.process({"image": np.ascontiguousarray(image)}).detections or []
        regions = []
        for detection in detections:
            hips, tip = detection.location_data.relative_keypoints[:2]
            centre = (hips.x * width, hips.y * height)
            regions.append(Region(centre, (tip.x * width, tip.y * height), float(detection.score[0])))
        return regions

    def outline(self, image: Image, region: Region) -> Body | None:
        """Return the body in `region` of `image` [H, W, 3] RGB, or None if the landmark model finds nobody."""
        from mediapipe.framework.formats import rect_pb2

        height, width = image.shape[:2]
        up = (region.tip[0] - region.centre[0], region.centre[1] - region.tip[1])
        side = 2.5 * region.radius  # the margin the landmark model was trained with
        rect = rect_pb2.NormalizedRect(
            x_center=region.centre[0] / width,
            y_center=region.centre[1] / height,
            width=side / width,
            height=side / height,
            rotation=float(np.arctan2(up[0], up[1])),
        )
        answer = self._landmarker.process({"image": np.ascontiguousarray(image), "region": rect})
        if answer.landmarks is None:
            return None
        landmarks = np.array([(p.x * width, p.y * height, p.visibility) for p in answer.landmarks.landmark], np.float32)
        hips, tip = ((p.x * width, p.y * height) for p in answer.alignment.landmark[:2])
        return Body(landmarks, Region(hips, tip, region.score))


def _graph(text: str, side_packets: dict[str, Any] | None = None) -> Any:
    # importing the option modules registers their names with the text format parser
    from google.protobuf import text_format
    from mediapipe.calculators.tensor import (  # noqa: F401
        image_to_tensor_calculator_pb2,
        inference_calculator_pb2,
        tensors_to_detections_calculator_pb2,
    )
    from mediapipe.calculators.tflite import ssd_anchors_calculator_pb2  # noqa: F401
    from mediapipe.calculators.util import non_max_suppression_calculator_pb2  # noqa: F401
    from mediapipe.framework import calculator_pb2
    from mediapipe.python.solution_base import SolutionBase

    config = text_format.Parse(text, calculator_pb2.CalculatorGraphConfig())
    return SolutionBase(graph_config=config, side_inputs=side_packets)
