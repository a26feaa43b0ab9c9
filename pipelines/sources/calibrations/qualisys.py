"""Qualisys Track Manager format (`*.qca.txt`, XML).

Sensor coordinates are in 1/64 pixel with OpenCV's pixel convention (the sensor ends at 64 (width - 1)). The principal
point refers to the whole sensor; `fov_video` is the recorded crop. Positions are in millimetres. `transform` contains
the camera's axes in the world as rows: right, up, backwards.
"""

from functools import partial
from xml.etree.ElementTree import Element

import numpy as np

from opendimo.pipelines.sources.calibration import Calibration, Camera, make_camera
from opendimo.pipelines.sources.calibrations.document import Document

NAME = "Qualisys (XML)"
UNITS = 64.0
"""Sensor units per pixel."""
FLIP = np.diag([1.0, -1.0, -1.0])


def fits(document: Document) -> bool:
    """Return whether the document is XML with a calibrated Qualisys camera."""
    return document.syntax == "XML" and document.tree.find("cameras/camera/intrinsic") is not None


def read(document: Document) -> Calibration:
    """Read the active cameras by serial number."""
    active = [camera for camera in document.tree.findall("cameras/camera") if camera.get("active", "1") != "0"]
    return Calibration((document.path,), NAME, {camera.attrib["serial"]: partial(_camera, camera) for camera in active})


def _camera(camera: Element) -> Camera:
    if camera.get("viewrotation", "0") != "0":
        raise ValueError(f"viewrotation is {camera.get('viewrotation')}: calibrate it upright, or export it turned")
    if "fisheye" in camera.get("model", "").lower():
        raise ValueError(f"a fisheye lens ({camera.get('model')}): undistort the video and give the pinhole camera")
    lens, pose, window = _numbers(camera, "intrinsic"), _numbers(camera, "transform"), _numbers(camera, "fov_video")
    left, top = window["left"], window["top"]
    K = [
        [lens["focalLengthU"] / UNITS, lens.get("skew", 0.0) / UNITS, lens["centerPointU"] / UNITS - left],
        [0, lens["focalLengthV"] / UNITS, lens["centerPointV"] / UNITS - top],
        [0, 0, 1],
    ]
    radial = [lens.get(f"radialDistortion{i}", 0.0) for i in (1, 2, 3)]
    tangential = [lens.get(f"tangentalDistortion{i}", 0.0) for i in (1, 2)]  # spelt like this in the files
    axes = np.array([[pose[f"r{i}{j}"] for j in (1, 2, 3)] for i in (1, 2, 3)])
    R = FLIP @ axes
    centre = np.array([pose["x"], pose["y"], pose["z"]])
    return make_camera(
        size=[window["right"] - left + 1, window["bottom"] - top + 1],
        K=K,
        R=R,
        t=-R @ centre,
        distortion=[*radial[:2], *tangential, radial[2]],
        unit=1e-3,
    )


def _numbers(camera: Element, part: str) -> dict[str, float]:
    element = camera.find(part)
    if element is None:
        raise KeyError(part)
    return {key: float(value) for key, value in element.attrib.items()}
