"""nerfstudio, instant-ngp and Blender format: `transforms.json`.

It has a camera-to-world matrix per image, in OpenGL's axes (x right, y up, z backwards), and a lens with COLMAP's pixel
convention. Blender's, of NeRF's synthetic scenes, has only the horizontal angle of view, `camera_angle_x`, and the
principal point is the middle of the image. Lengths are not metric unless `"metric": true` is set; `gravity_down` is
optional.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from opendimo.pipelines.sources.calibration import FISHEYE, OPENCV, Calibration
from opendimo.pipelines.sources.calibrations.document import Document
from opendimo.pipelines.sources.calibrations.shots import Lens, Shot, gather

NAME = "nerfstudio (transforms.json)"
LENSES = {
    "PINHOLE": (OPENCV, ()),
    "SIMPLE_PINHOLE": (OPENCV, ()),
    "SIMPLE_RADIAL": (OPENCV, ("k1", "k2", "p1", "p2")),
    "RADIAL": (OPENCV, ("k1", "k2", "p1", "p2")),
    "OPENCV": (OPENCV, ("k1", "k2", "p1", "p2", "k3")),
    "OPENCV_FISHEYE": (FISHEYE, ("k1", "k2", "k3", "k4")),
}
FLIP = np.diag([1.0, -1.0, -1.0])


def fits(document: Document) -> bool:
    """Return whether the document has frames with a transform matrix."""
    tree = document.tree
    frames = tree.get("frames") if document.syntax == "JSON" and isinstance(tree, dict) else None
    return isinstance(frames, list) and any(isinstance(f, dict) and "transform_matrix" in f for f in frames)


def read(document: Document) -> Calibration:
    """Read the cameras of all frames."""
    tree = document.tree
    shots = [_shot({**tree, **frame}) for frame in tree["frames"]]
    return gather((document.path,), NAME, shots, bool(tree.get("metric", False)), tree.get("gravity_down"))


def _shot(values: Mapping[str, Any]) -> Shot:
    to_world = np.array(values["transform_matrix"], np.float64)
    if to_world.shape not in ((4, 4), (3, 4)):
        raise ValueError(f"transform_matrix of {values['file_path']} has shape {to_world.shape}, expected (4, 4)")
    R = FLIP @ to_world[:3, :3].T
    return Shot(str(values["file_path"]), _lens(values), R, -R @ to_world[:3, 3])


def _lens(values: Mapping[str, Any]) -> Lens:
    if "w" not in values and "fl_x" not in values and "camera_angle_x" in values:  # of Blender
        focal = 0.5 / np.tan(float(values["camera_angle_x"]) / 2)
        return Lens(None, np.diag([focal, focal, 1.0]), (), OPENCV)
    size = (int(values["w"]), int(values["h"]))
    fx = values["fl_x"] if "fl_x" in values else size[0] / 2 / np.tan(values["camera_angle_x"] / 2)
    fy = values.get("fl_y", fx)
    cx, cy = values.get("cx", size[0] / 2), values.get("cy", size[1] / 2)
    K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], np.float64)
    model, names = LENSES.get(str(values.get("camera_model", "OPENCV")), (str(values.get("camera_model")), ()))
    if model == OPENCV and (unlike := [k for k in ("k4", "k5", "k6") if values.get(k)]):
        raise ValueError(f"{', '.join(unlike)} of camera_model OPENCV is not OpenCV's: undistort the images first")
    distortion = tuple(float(values.get(name, 0.0)) for name in names)
    return Lens(size, K, distortion if any(distortion) or model != OPENCV else (), model)
