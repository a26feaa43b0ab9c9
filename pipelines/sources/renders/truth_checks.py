"""Plausibility checks of rendered ground truth: implausible views are rejected with a message that says what is wrong.

Joints and cameras are in the project's world (metres, gravity +y); K is for pictures of size 1 x 1.
"""

import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.people.truth import true_tracks
from opendimo.pipelines.sources.renders.cameras import Cameras
from opendimo.storage_schemas.conventions import camera_centres

Array = NDArray[np.float64]
BODY_SIZE = (0.3, 4.0)
"""Plausible range of the diagonal of a body's joints, median over time, in metres; outside it the units are wrong."""
IN_GROUND = 0.3
"""How far below the ground a camera may be, in metres: the ground is not flat, and often only estimated from feet."""


def check_frames(pictures: int, cameras: Cameras, stated: int | None, where: str) -> None:
    """Raise `DataError` unless pictures, cameras and scene definition have the same number of frames."""
    counts = {"the pictures": pictures}
    if cameras.numbers is not None:
        counts["the cameras"] = len(cameras.numbers)
        if stated is not None:
            counts["the scene definition"] = len(range(0, stated, cameras.numbers.step))
    elif stated is not None:
        counts["the scene definition"] = stated
    if len(set(counts.values())) > 1:
        text = ", ".join(f"{what} {count}" for what, count in counts.items())
        raise DataError(f"{where}: frame counts disagree: {text}: they are of different renders, or some are missing")


def check_numbers(columns: dict[str, object], where: str) -> None:
    """Raise `DataError` unless the stored (float32) cameras and truth are finite; too large numbers overflow."""
    for name, value in columns.items():
        if isinstance(value, np.ndarray) and not np.isfinite(value).all():
            raise DataError(f"{where}: {name} has numbers that are not finite, or too large: check the units")


def check_bodies(joints: dict[str, Array], where: str) -> None:
    """Raise `DataError` unless the `joints` [T, J, 3] of every body are finite and of human size."""
    for name, body in joints.items():
        if not np.isfinite(body).all():
            frame = int(np.argmin(np.isfinite(body).all(axis=(1, 2))))
            raise DataError(f"{where}: body {name} has joints that are not finite in frame {frame}")
        size = float(np.median(np.linalg.norm(body.max(1) - body.min(1), axis=-1)))
        if not BODY_SIZE[0] <= size <= BODY_SIZE[1]:
            raise DataError(f"{where}: body {name} measures {size:.3g} m from end to end: check the units")


def check_ground(cameras: Cameras, joints: dict[str, Array], ground: float | None, where: str) -> None:
    """Raise `DataError` if a camera is inside the ground.

    The ground height is the lower of `ground` (metres) and the lowest joint; `IN_GROUND` is tolerated.
    """
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
    """Return the bodies of which these cameras never see a third of the joints in one frame."""
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
