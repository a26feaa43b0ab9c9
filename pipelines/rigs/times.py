"""Compute time offsets from timestamps: by how many frames each camera is late against the rig's clock."""

import numpy as np

from opendimo.pipelines.rigs.offsets import Offsets
from opendimo.pipelines.rigs.views import RigView


def from_times(views: list[RigView]) -> Offsets | None:
    """Compute the offsets of views that all have timestamps; return None otherwise.

    The rig's clock is the median timestamp of the cameras at each frame number. A camera whose frame i was taken before
    the clock's frame i is late by the number of frames between: it shows the clock's moment in a later frame. The
    residual is the median deviation from the offset over the video; it is large for a camera that drops frames or runs
    slower, which has no constant offset.
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
        positions = np.interp(clock, t, np.arange(len(t)))
        positions = np.where(clock < t[0], (clock - t[0]) * rate, positions)
        positions = np.where(clock > t[-1], len(t) - 1 + (clock - t[-1]) * rate, positions)
        late.append(positions - numbers)
    frames = np.array([np.median(row) for row in late])
    residual = np.array([np.median(abs(row - middle)) for row, middle in zip(late, frames, strict=True)])
    return Offsets("timestamps", frames - np.median(frames), residual)
