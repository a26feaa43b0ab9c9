"""CMU Panoptic Studio format: JSON with a list of cameras (`K`, `distCoef`, `R`, `t`), in centimetres, Y down.

The studio has 521 cameras in panels and nodes (VGA, HD, Kinect), with names like `00_16`; a take usually has videos of
only a few.
"""

from functools import partial
from typing import Any

from opendimo.pipelines.sources.calibration import Calibration, Camera, make_camera
from opendimo.pipelines.sources.calibrations.document import Document

NAME = "CMU Panoptic (JSON)"


def fits(document: Document) -> bool:
    """Return whether the document has a list of cameras with `distCoef`."""
    return document.syntax == "JSON" and isinstance(document.tree, dict) and bool(_listed(document.tree))


def read(document: Document) -> Calibration:
    """Read the cameras with lens and pose, by name."""
    cameras = {str(entry["name"]): partial(_camera, entry) for entry in _listed(document.tree)}
    return Calibration((document.path,), NAME, cameras, gravity_down=[0.0, 1.0, 0.0], partial=True)


def _listed(tree: dict[str, Any]) -> list[dict[str, Any]]:
    cameras = tree.get("cameras")
    entries = cameras if isinstance(cameras, list) else []
    return [entry for entry in entries if isinstance(entry, dict) and "distCoef" in entry]


def _camera(entry: dict[str, Any]) -> Camera:
    return make_camera(
        size=entry["resolution"], K=entry["K"], R=entry["R"], t=entry["t"], distortion=entry["distCoef"], unit=0.01
    )
