"""A procedural body model in the SMPL-X file format, used if no SMPL-X file is given.

Joints, tree, axes and file keys are those of SMPL-X (`smplx.SMPLX` can load it); the vertices, their order and the
meaning of the shape coefficients are different. Vertices lie on round cones that follow joints; surface and skinning
weights come from the same blend of cones, so that both vary smoothly at joints.
"""

import hashlib
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opendimo.model.body import mannequin_parts as parts
from opendimo.model.body import surface
from opendimo.model.body.skeleton import SMPLX_JOINTS, SMPLX_PARENTS

Array = NDArray[np.float64]
NUM_EXPRESSIONS = 10
REGRESSOR_VERTICES = 256


@cache
def mannequin_file() -> Path:
    """Return the path of the mannequin's .npz file, which the first call writes to `$XDG_CACHE_HOME/opendimo`.

    Its name contains a hash of the code that generates it, so that outdated files are not used.
    """
    code = b"".join(Path(module).read_bytes() for module in (__file__, parts.__file__, surface.__file__))
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "opendimo"
    target = folder / f"mannequin-{hashlib.sha256(code).hexdigest()[:12]}.npz"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".npz", delete=False) as stream:
            np.savez_compressed(stream, **make_mannequin())
        os.replace(stream.name, target)
    return target


def vertex_colours() -> NDArray[np.uint8]:
    """Return one colour per vertex [V, 3] for clothes, skin and hair; left, right, front and back look different."""
    with np.load(mannequin_file(), allow_pickle=False) as content:
        return np.asarray(content["vertex_colours"])


def make_mannequin() -> dict[str, Any]:
    """Compute the arrays of the file, by SMPL-X's keys, and `vertex_colours`."""
    joints = np.array([parts.JOINTS[name] for name in SMPLX_JOINTS])  # [55, 3], heights above the floor
    pieces = [_piece(part) for part in parts.PARTS]
    counts = np.cumsum([0] + [len(piece["vertices"]) for piece in pieces])
    vertices, weights, radial, colours = (
        np.concatenate([piece[key] for piece in pieces]) for key in ("vertices", "weights", "radial", "colours")
    )
    faces = np.concatenate([piece["faces"] + first for piece, first in zip(pieces, counts[:-1], strict=True)])
    directions = np.stack(_shape_directions(vertices, radial), axis=-1)  # [V, 3, 10]
    template = _rounded(vertices - parts.ORIGIN)
    names = len(SMPLX_JOINTS)
    return {
        "v_template": template,
        "f": faces.astype(np.uint32),
        "shapedirs": _rounded(np.pad(directions, ((0, 0), (0, 0), (0, NUM_EXPRESSIONS)))),
        "posedirs": np.zeros((len(vertices), 3, 9 * (names - 1)), np.float32),
        "J_regressor": _regressor(template.astype(np.float64), joints - parts.ORIGIN),
        "weights": _rounded(weights),
        "kintree_table": np.array([[p % 2**32 for p in SMPLX_PARENTS], range(names)], np.int64),
        "lmk_faces_idx": np.zeros(51, np.int64),
        "lmk_bary_coords": np.full((51, 3), 1 / 3, np.float32),
        "dynamic_lmk_faces_idx": np.zeros((79, 17), np.int64),
        "dynamic_lmk_bary_coords": np.full((79, 17, 3), 1 / 3, np.float32),
        "vertex_colours": colours.astype(np.uint8),
    } | {f"hands_{key}{side}": value for side in "lr" for key, value in _HAND_SPACE.items()}


_HAND_SPACE = {"mean": np.zeros(45, np.float32), "components": np.eye(45, dtype=np.float32)}


def _rounded(values: Array) -> NDArray[np.float32]:
    """Round to a micrometre, so that machines with different floating-point rounding write identical files."""
    return np.round(values, 6).astype(np.float32)


def _piece(part: parts.Part) -> dict[str, Any]:
    """Mesh one part: vertices, faces, weights [V, 55], offsets from the cones' axes [V, 3], colours [V, 3]."""
    low, high = surface.bounds(part.cones, 3 * part.step + part.seam)
    vertices, faces = surface.surface_nets(
        lambda points: surface.blended_distance(part.cones, points, part.seam), low, high, part.step
    )
    shares = surface.shares(part.cones, vertices, part.bend)  # [V, cones]
    owners = np.array([[cone.joint == name for name in SMPLX_JOINTS] for cone in part.cones], dtype=float)
    weights = _strongest(shares @ owners)
    axes = np.stack([cone.axis_points(vertices)[0] for cone in part.cones], axis=1)  # [V, cones, 3]
    vertices[:, 1] = np.maximum(vertices[:, 1], 0)  # flat soles
    return {
        "vertices": vertices,
        "faces": faces,
        "weights": weights,
        "radial": vertices - np.einsum("vc,vcd->vd", shares, axes),
        "colours": part.paint(vertices),
    }


def _strongest(weights: Array, count: int = 4) -> Array:
    """Keep the largest `count` weights of each row and normalise them to sum to 1."""
    threshold = np.sort(weights, axis=-1)[:, -count, None]
    kept = np.where((weights >= threshold) & (weights > 0.005), weights, 0)
    return kept / kept.sum(-1, keepdims=True)


def _regressor(vertices: Array, joints: Array) -> NDArray[np.float32]:
    """Return regression weights [55, V] that sum to 1 and reproduce each joint exactly.

    They minimise the squared norm, with a cost that increases with the distance of a vertex.
    """
    regressor = np.zeros((len(joints), len(vertices)))
    for row, joint in zip(regressor, joints, strict=True):
        offsets = vertices - joint
        near = np.argsort((offsets**2).sum(-1), kind="stable")[:REGRESSOR_VERTICES]
        system = np.vstack([offsets[near].T, np.ones(len(near))])  # [4, N]
        cheap = 1 / ((offsets[near] ** 2).sum(-1) + 1e-4)
        row[near] = cheap * (system.T @ np.linalg.solve((system * cheap) @ system.T, np.array([0.0, 0.0, 0.0, 1.0])))
    return regressor.astype(np.float32)


def _shape_directions(v: Array, radial: Array) -> list[Array]:
    """Return ten displacement fields [V, 3] in metres per unit, smooth in space so that regressed joints follow."""
    x, y, z = v.T
    side = np.sign(x)
    hip, knee_to_neck, shoulder = parts.JOINTS["left_hip"][1], 0.5, parts.JOINTS["left_shoulder"][0]
    neck = parts.JOINTS["neck"][1]
    head = np.clip((y - neck) / 0.1, 0, 1) * (np.abs(x) < shoulder)
    trunk = np.clip((y - hip) / knee_to_neck, 0, 1)
    middle = np.exp(-(((y - 1.1) / 0.15) ** 2)) * (np.abs(x) < shoulder)
    zero = np.zeros_like(x)
    return [
        0.03 * v,  # stature
        0.10 * radial,  # build
        np.stack([zero, 0.04 * np.minimum(y, hip), zero], -1),  # legs
        np.stack([zero, 0.03 * trunk, zero], -1),  # trunk
        np.stack([0.04 * side * np.clip(np.abs(x) - shoulder, 0, None), zero, zero], -1),  # arms
        np.stack([0.015 * np.clip(x / shoulder, -1, 1) * trunk, zero, zero], -1),  # shoulders
        np.stack([0.015 * np.clip(x / 0.1, -1, 1) * (1 - trunk), zero, zero], -1),  # hips
        0.05 * head[:, None] * (v - parts.JOINTS["head"]),  # head
        np.stack([zero, zero, 0.03 * middle * np.clip(z / 0.1, 0, 1)], -1),  # belly
        np.stack([zero, zero, 0.02 * trunk * np.clip(-z / 0.1, -1, 1) * middle], -1),  # back
    ]
