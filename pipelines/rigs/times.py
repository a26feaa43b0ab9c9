"""Time offsets from timestamps: how many frames later than the rig's clock each camera is."""

import numpy as np

from opendimo.pipelines.rigs.offsets import Offsets
from opendimo.pipelines.rigs.views import RigView


def from_times(views: list[RigView]) -> Offsets | None:
    """Offsets of views that all have times; None otherwise.

    The rig's clock is the median of the cameras at each frame number. A camera whose frame i was taken before the
    clock's is late by the frames that lie between: it shows the clock's moment only later. The residual is the median
    deviation from that over the video: a camera that drops frames or runs slower has no one offset.
    """
    times = [view.times for view in views if view.times is not None]
    if len(times) < len(views) or any(len(t) < 2 or t[-1] <= t[0] for t in times):
        return None
    length = min(map(len, times))
    clock = np.median([t[:length] for t in times], axis=0)
    numbers = np.arange(length)
    late = []
    for t in times:
        rate = (len(t) - 1) / (t[-1] - t[0])
        place = np.interp(clock, t, np.arange(len(t)))
        place = np.where(clock < t[0], (clock - t[0]) * rate, place)
        place = np.where(clock > t[-1], len(t) - 1 + (clock - t[-1]) * rate, place)
        late.append(place - numbers)
    frames = np.array([np.median(row) for row in late])
    residual = np.array([np.median(abs(row - middle)) for row, middle in zip(late, frames, strict=True)])
    return Offsets("timestamps", frames - np.median(frames), residual)
