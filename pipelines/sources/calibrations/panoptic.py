"""CMU Panoptic Studio: JSON with a list of cameras (`K`, `distCoef`, `R`, `t`), centimetres, Y down.

The studio has 521 cameras in panels and nodes (VGA, HD, Kinect), called like `00_16`; the videos that one has are some.
"""

from functools import partial
from typing import Any

from opendimo.pipelines.sources.calibration import Calibration, Camera, make_camera
from opendimo.pipelines.sources.calibrations.document import Document

NAME = "CMU Panoptic (JSON)"


def fits(document: Document) -> bool:
    """Whether it has a list of cameras with `distCoef`."""
    return document.syntax == "JSON" and isinstance(document.tree, dict) and bool(_listed(document.tree))


def read(document: Document) -> Calibration:
    """The cameras that have a lens and a place, by name."""
    cameras = {str(entry["name"]): partial(_camera, entry) for entry in _listed(document.tree)}
    return Calibration((document.path,), NAME, cameras, gravity_down=[0.0, 1.0, 0.0], partial=True)


def _listed(tree: dict[str, Any]) -> list[dict[str, Any]]:
    listed = tree.get("cameras")
    found = listed if isinstance(listed, list) else []
    return [entry for entry in found if isinstance(entry, dict) and "distCoef" in entry]


def _camera(entry: dict[str, Any]) -> Camera:
    return make_camera(
        size=entry["resolution"], K=entry["K"], R=entry["R"], t=entry["t"], distortion=entry["distCoef"], unit=0.01
    )
