"""Qualisys Track Manager's calibration (`*.qca.txt`, XML).

Lengths on the sensor are in 1/64 pixel, counted as OpenCV counts (the sensor ends at 64 (width - 1)); the principal
point is that of the whole sensor, of which `fov_video` is the part that was filmed. Positions are in millimetres.
`transform` holds the camera's axes in the world, as rows: right, up, backwards.
"""

from functools import partial
from xml.etree.ElementTree import Element

import numpy as np

from opendimo.pipelines.sources.calibration import Calibration, Camera, make_camera
from opendimo.pipelines.sources.calibrations.document import Document

NAME = "Qualisys (XML)"
UNITS = 64.0
"""Sensor units of a pixel."""
FLIP = np.diag([1.0, -1.0, -1.0])


def fits(document: Document) -> bool:
    """Whether it is XML with a camera that has a lens and a place."""
    return document.syntax == "XML" and document.tree.find("cameras/camera/intrinsic") is not None


def read(document: Document) -> Calibration:
    """The cameras that were in use, by serial number."""
    found = [camera for camera in document.tree.findall("cameras/camera") if camera.get("active", "1") != "0"]
    return Calibration((document.path,), NAME, {camera.attrib["serial"]: partial(_camera, camera) for camera in found})


def _camera(camera: Element) -> Camera:
    if camera.get("viewrotation", "0") != "0":
        raise ValueError(f"viewrotation is {camera.get('viewrotation')}: calibrate it upright, or export it turned")
    if "fisheye" in camera.get("model", "").lower():
        raise ValueError(f"a fisheye lens ({camera.get('model')}): undistort the video and give the pinhole camera")
    lens, place, window = _numbers(camera, "intrinsic"), _numbers(camera, "transform"), _numbers(camera, "fov_video")
    left, top = window["left"], window["top"]
    K = [
        [lens["focalLengthU"] / UNITS, lens.get("skew", 0.0) / UNITS, lens["centerPointU"] / UNITS - left],
        [0, lens["focalLengthV"] / UNITS, lens["centerPointV"] / UNITS - top],
        [0, 0, 1],
    ]
    radial = [lens.get(f"radialDistortion{i}", 0.0) for i in (1, 2, 3)]
    tangential = [lens.get(f"tangentalDistortion{i}", 0.0) for i in (1, 2)]  # spelt like this in the files
    axes = np.array([[place[f"r{i}{j}"] for j in (1, 2, 3)] for i in (1, 2, 3)])
    R = FLIP @ axes
    centre = np.array([place["x"], place["y"], place["z"]])
    return make_camera(
        size=[window["right"] - left + 1, window["bottom"] - top + 1],
        K=K,
        R=R,
        t=-R @ centre,
        distortion=[*radial[:2], *tangential, radial[2]],
        unit=1e-3,
    )


def _numbers(camera: Element, part: str) -> dict[str, float]:
    found = camera.find(part)
    if found is None:
        raise KeyError(part)
    return {key: float(value) for key, value in found.attrib.items()}
