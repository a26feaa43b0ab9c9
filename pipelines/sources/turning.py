"""Turn calibrated cameras with their pictures: some calibrations hold for stored pictures, people are seen upright."""

import numpy as np

from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.sources.calibration import Array, Camera, Size
from opendimo.pipelines.sources.renders.cameras import turn_clockwise
from opendimo.storage_schemas.media.video import VideoInfo

S, TILT = slice(8, 12), slice(12, 14)
"""Places of the thin prism coefficients s1..s4 and of the tilt of the sensor among OpenCV's coefficients."""


def turns_of(camera: Camera, info: VideoInfo) -> tuple[int, int]:
    """Return two clockwise rotations of stored pictures in degrees: for which the calibration holds, and upright.

    Most tools calibrate upright pictures. If the size at calibration has the shape of stored pictures and not of
    upright ones, or the tool turns pictures only for display (`camera.turn`), the calibration holds for stored ones.
    """
    held = info.rotation if camera.turn is None else 0
    if info.rotation in (90, 270) and camera.size is not None and info.width != info.height:
        is_upright = (camera.size[0] > camera.size[1]) == (info.width > info.height)
        held = info.rotation if is_upright else 0
    return held, camera.turn or info.rotation


def turned(
    K: Array, pose: Array, distortion: list[float], size: Size, degrees: int
) -> tuple[Array, Array, list[float]]:
    """Return `K` [N, 3, 3], `pose` [N, 3, 4] and `distortion` for pictures of `size` rotated clockwise by `degrees`.

    Raises `DataError` if the turned camera has no such parameters: a quarter turn of skewed pixels, a tilted sensor.
    """
    if degrees % 360 and (any(distortion[TILT]) or (degrees % 180 and K[:, 0, 1].any())):
        raise DataError("it has skewed pixels or a tilted sensor, so it cannot be turned upright: undistort the video")
    pose = turn_clockwise(pose, degrees)
    for _ in range(degrees // 90 % 4):  # (x, y) becomes (-y, x), pixels (u, v) become (height - v, u)
        quarter = np.zeros_like(K)
        quarter[:, 0, 0], quarter[:, 1, 1], quarter[:, 2, 2] = K[:, 1, 1], K[:, 0, 0], 1
        quarter[:, 0, 1] = -K[:, 0, 1]  # not 0 only for half turns, where it ends as it was
        quarter[:, 0, 2], quarter[:, 1, 2] = size[1] - K[:, 1, 2], K[:, 0, 2]
        K, size = quarter, (size[1], size[0])
        distortion = [*distortion]
        if distortion:
            distortion[2:4] = distortion[3], -distortion[2]
        if len(distortion) >= S.stop:
            s1, s2, s3, s4 = distortion[S]
            distortion[S] = -s3, -s4, s1, s2
    return K, pose, distortion
