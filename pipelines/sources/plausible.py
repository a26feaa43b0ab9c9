"""Refuse calibrations that cannot be true: lengths in another unit, and intrinsics of another image size."""

import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.engine.stage import DataError

Array = NDArray[np.floating]
UNITS = {"m": 1.0, "cm": 0.01, "mm": 0.001, "in": 0.0254, "ft": 0.3048}
"""Units of length that a calibration may be in, metres."""
MOST_SPREAD, USUAL_SPREAD = 300.0, 4.0
"""Distance over which the cameras of a take may be spread, and usually are, metres."""
FAR_OFF, BOTH_OFF, ALIKE = 0.4, 0.2, 0.2
"""A principal point is implausible if it is further from the middle of the image than this share of half the side:
`FAR_OFF` along one axis; `BOTH_OFF` along both, by factors that differ by less than `ALIKE`, as with a scaled image.
Calibrations of cropped sensors reach 0.27 along one axis (Kinects of CMU Panoptic)."""


def check_spread(centres: Array, unit: float) -> None:
    """Raise `DataError` if cameras at `centres` [N, 3] (metres) cannot film one person. The file is in `unit` metres.

    The message names the unit in which the spread would be the most usual.
    """
    spread = float(np.linalg.norm(np.ptp(centres, axis=0))) if len(centres) else 0.0
    if spread <= MOST_SPREAD:
        return
    in_unit = {name: spread / unit * length for name, length in UNITS.items()}
    likely = min(in_unit, key=lambda name: abs(float(np.log(in_unit[name] / USUAL_SPREAD))))
    raise DataError(
        f"its cameras are spread over {spread:.0f} m: lengths are not in the unit of this format; if they are in "
        f"{likely} (factor {UNITS[likely]:g}), the spread is {in_unit[likely]:.3g} m: give --unit {likely}"
    )


def check_principal_point(K: Array, size: tuple[int, int]) -> None:
    """Raise `DataError` if `K` [N, 3, 3] is of images of another size than `size` (width, height)."""
    factors = 2 * K[:, :2, 2] / size
    off = abs(factors - 1)
    scaled = (off.min(1) > BOTH_OFF) & (abs(factors[:, 0] - factors[:, 1]) < ALIKE * abs(factors).max(1))
    bad = (off.max(1) > FAR_OFF) | scaled
    if bad.any():
        x, y = K[int(np.argmax(bad)), :2, 2]
        raise DataError(
            f"its principal point ({x:.0f}, {y:.0f}) is far from the middle of {size[0]}x{size[1]} pixels: "
            f"K seems to be for images of about {2 * x:.0f}x{2 * y:.0f}; give K and size of the same images"
        )


def unit_of(ratio: float) -> str | None:
    """Return the unit in which lengths that are `ratio` times too large for metres seem to be; None if none fits."""
    likely = min(UNITS, key=lambda name: abs(float(np.log(ratio * UNITS[name]))))
    return likely if abs(float(np.log(ratio * UNITS[likely]))) < np.log(1.5) else None
