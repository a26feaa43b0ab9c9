"""EasyMocap format: `intri.yml` and `extri.yml` side by side, as written by `cv2.FileStorage`, in metres.

`intri.yml` has `K_<name>`, `dist_<name>` and sometimes `H_<name>`, `W_<name>`; `extri.yml` has `Rot_<name>` or the
Rodrigues vector `R_<name>`, and `T_<name>`. Older files omit the image size: the videos are then assumed to have the
size of the calibration.
"""

from functools import partial
from typing import Any

from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.sources.calibration import Calibration, Camera, make_camera
from opendimo.pipelines.sources.calibrations.document import Document, read_document

NAME = "EasyMocap (intri.yml and extri.yml)"
PARTS = ("intri", "extri")


def fits(document: Document) -> bool:
    """Return whether the document has `names` and a matrix for one of them."""
    return document.syntax == "OpenCV" and any(
        f"{key}_{name}" in document.tree for name in _names(document.tree) for key in ("K", "T")
    )


def read(document: Document) -> Calibration:
    """Read the cameras from both files, given either of them."""
    files = tuple(document.path.with_name(f"{part}{document.path.suffix}") for part in PARTS)
    if document.path not in files or not all(file.is_file() for file in files):
        named = " and ".join(file.name for file in files)
        raise DataError(f"{document.path.parent}: EasyMocap has two files, {named}: both are needed")
    intri, extri = (read_document(file).tree for file in files)
    cameras = {name: partial(_camera, name, intri, extri) for name in _names(intri)}
    return Calibration(files, NAME, cameras)


def _names(tree: Any) -> list[str]:
    names = tree.get("names") if isinstance(tree, dict) else None
    return [str(name) for name in names] if isinstance(names, list) else []


def _camera(name: str, intri: dict[str, Any], extri: dict[str, Any]) -> Camera:
    size = [intri[f"W_{name}"], intri[f"H_{name}"]] if f"H_{name}" in intri else None
    R = extri[f"Rot_{name}"] if f"Rot_{name}" in extri else extri[f"R_{name}"]
    distortion = intri.get(f"dist_{name}", intri.get(f"D_{name}", []))
    return make_camera(size=size, K=intri[f"K_{name}"], R=R, t=extri[f"T_{name}"], distortion=distortion)
