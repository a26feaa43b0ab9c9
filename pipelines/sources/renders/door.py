"""Truth is checked at the door: what cannot be true of a render keeps it out, with words that say what is wrong.

Joints and cameras are in our world (metres, gravity +y), K is that of pictures of size 1 x 1.
"""

import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.people.truth import true_tracks
from opendimo.pipelines.sources.renders.cameras import Cameras
from opendimo.storage_schemas.conventions import camera_centres

Array = NDArray[np.float64]
BODY_SIZE = (0.3, 4.0)
"""Least and greatest diagonal of a body's joints, the median over time (metres): units are wrong beyond."""
IN_GROUND = 0.3
"""How far below the ground a camera may be (metres): grounds are not flat, and often only guessed from feet."""


def check_frames(pictures: int, cameras: Cameras, stated: int | None, where: str) -> None:
    """Pictures, cameras and the scene definition must be of one number of frames; raises `DataError`."""
    told = {"the pictures": pictures}
    if cameras.numbers is not None:
        told["the cameras"] = len(cameras.numbers)
        if stated is not None:
            told["the scene definition"] = len(range(0, stated, cameras.numbers.step))
    elif stated is not None:
        told["the scene definition"] = stated
    if len(set(told.values())) > 1:
        counts = ", ".join(f"{what} {count}" for what, count in told.items())
        raise DataError(f"{where}: frame counts disagree: {counts}: they are of different renders, or some are missing")


def check_numbers(columns: dict[str, object], where: str) -> None:
    """Cameras and truth, as they are stored, must be finite: far too large numbers are not; raises `DataError`."""
    for name, value in columns.items():
        if isinstance(value, np.ndarray) and not np.isfinite(value).all():
            raise DataError(f"{where}: {name} holds numbers that are not finite, or too large")


def check_bodies(joints: dict[str, Array], where: str) -> None:
    """`joints` [T, J, 3] of every body must be finite and of a human size; raises `DataError`."""
    for name, body in joints.items():
        if not np.isfinite(body).all():
            frame = int(np.argmin(np.isfinite(body).all(axis=(1, 2))))
            raise DataError(f"{where}: body {name} has joints that are not finite in frame {frame}")
        size = float(np.median(np.linalg.norm(body.max(1) - body.min(1), axis=-1)))
        if not BODY_SIZE[0] <= size <= BODY_SIZE[1]:
            raise DataError(f"{where}: body {name} measures {size:.3g} m from end to end: check the units")


def check_ground(cameras: Cameras, joints: dict[str, Array], ground: float | None, where: str) -> None:
    """No camera may be inside the ground: the lower one of `ground` (a height in metres) and the lowest joint."""
    heights = [float(-body[..., 1].max()) for body in joints.values()] + ([] if ground is None else [ground])
    if not heights:
        return
    above = -camera_centres(cameras.world_to_camera)[:, 1] - min(heights)
    if above.min() < -IN_GROUND:
        raise DataError(
            f"{where}: the camera is {-above.min():.2f} m inside the ground in frame {int(above.argmin())}: "
            "cameras and bodies are of different renders, or axes or units are wrong"
        )


def unseen(cameras: Cameras, joints: dict[str, Array]) -> dict[str, Array]:
    """The bodies of which these cameras never see a third of the joints at once."""
    if not joints:
        return {}
    frames = len(next(iter(joints.values())))
    pose, K = (np.repeat(a, frames, axis=0) if len(a) == 1 else a for a in (cameras.world_to_camera, cameras.K))
    return {
        name: body
        for name, body in joints.items()
        if np.isnan(
            true_tracks(body[None].astype(np.float32), pose.astype(np.float32), K.astype(np.float32), (1, 1))
        ).all()
    }
