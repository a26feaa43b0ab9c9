"""OpenCV format in JSON, TOML or a `cv2.FileStorage` file: of OpenDiMo, caliscope, Pose2Sim and aniposelib.

One table per camera with `size` [width, height], the intrinsic matrix `K`, the distortion `dist` and the pose `R`, `t`
with `x_cam = R X + t` in metres; `NAMES` lists the alternative keys of other tools. JSON keeps the cameras under
`cameras`; TOML as tables with a `matrix`, under `cameras` (caliscope) or at the top level (Pose2Sim, aniposelib).
Optional at the top level or under `metadata`: `gravity_down`, the direction of gravity, and `metric = false` if lengths
are not in metres. `rotation_count` of caliscope only says by how many clockwise quarter turns it shows the pictures.
"""

from functools import partial
from typing import Any

from opendimo.pipelines.sources.calibration import FISHEYE, OPENCV, Calibration, Camera, make_camera
from opendimo.pipelines.sources.calibrations.document import Document

NAME = "OpenCV (JSON, TOML, YAML)"
NAMES = {
    "K": ("K", "matrix", "camera_matrix", "intrinsic_matrix"),
    "dist": ("dist", "distortions", "distortion_coefficients", "dist_coeffs"),
    "R": ("R", "rotation", "rvec"),
    "t": ("t", "translation", "T", "tvec"),
}


def fits(document: Document) -> bool:
    """Return whether the document has a table with an intrinsic matrix."""
    return document.syntax in ("JSON", "TOML", "OpenCV") and bool(_tables(document.tree))


def read(document: Document) -> Calibration:
    """Read the cameras in file order."""
    tree = document.tree
    metadata = tree["metadata"] if isinstance(tree.get("metadata"), dict) else {}
    metric = bool(tree.get("metric", metadata.get("metric", True)))
    cameras = {name: partial(_camera, table, metric) for name, table in _tables(tree).items()}
    return Calibration((document.path,), NAME, cameras, tree.get("gravity_down", metadata.get("gravity_down")))


def _tables(tree: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(tree, dict):
        return {}
    tables = tree["cameras"] if isinstance(tree.get("cameras"), dict) else tree
    return {
        str(table.get("name", key)): table
        for key, table in tables.items()
        if isinstance(table, dict) and any(name in table for name in NAMES["K"])
    }


def _camera(table: dict[str, Any], metric: bool) -> Camera:
    count = table.get("rotation_count")  # of caliscope, which calibrates pictures as stored
    if count is not None and count != int(count):
        raise ValueError(f"rotation_count {count} should be a whole number of clockwise quarter turns")
    turn = None if count is None else int(count) % 4 * 90
    lens = FISHEYE if table.get("fisheye") else str(table.get("lens", OPENCV))
    if table.get("size", ()) is None:
        raise ValueError("size should be [width, height] in pixels")
    size = table["size"] if "size" in table else [table["image_width"], table["image_height"]]
    distortion = _pick(table, "dist") if any(name in table for name in NAMES["dist"]) else []
    K, R, t = (_pick(table, name) for name in ("K", "R", "t"))
    return make_camera(size=size, K=K, R=R, t=t, distortion=distortion, lens=lens, metric=metric, turn=turn)


def _pick(table: dict[str, Any], parameter: str) -> Any:
    for name in NAMES[parameter]:
        if name in table:
            return table[name]
    raise KeyError(" or ".join(NAMES[parameter][:2]))
