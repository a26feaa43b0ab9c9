"""AIST++ format: `setting*.json`, in centimetres, Y up.

The file lists cameras `c01` to `c09` (`matrix`, `distortions`, a Rodrigues vector `rotation`, `translation`).
`mapping.txt` gives the setting of each take: see `takes.py`.
"""

from functools import partial
from typing import Any

from opendimo.pipelines.sources.calibration import Calibration, Camera, make_camera
from opendimo.pipelines.sources.calibrations.document import Document

NAME = "AIST++ (JSON)"
KEYS = {"name", "size", "matrix", "rotation", "translation", "distortions"}


def fits(document: Document) -> bool:
    """Return whether the document is a list of AIST++ cameras."""
    tree = document.tree
    return document.syntax == "JSON" and isinstance(tree, list) and any(_is_camera(entry) for entry in tree)


def read(document: Document) -> Calibration:
    """Read the cameras by name."""
    cameras = {str(entry["name"]): partial(_camera, entry) for entry in document.tree if _is_camera(entry)}
    return Calibration((document.path,), NAME, cameras, gravity_down=[0.0, -1.0, 0.0], partial=True)


def _is_camera(entry: Any) -> bool:
    return isinstance(entry, dict) and set(entry) >= KEYS


def _camera(entry: dict[str, Any]) -> Camera:
    return make_camera(
        size=entry["size"],
        K=entry["matrix"],
        R=entry["rotation"],
        t=entry["translation"],
        distortion=entry["distortions"],
        unit=0.01,
    )
