"""The centre crop to the target's aspect ratio: points and cameras are transformed consistently."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from opendimo.model.driving.framing import Framing

sizes = st.tuples(st.integers(64, 2000), st.integers(64, 2000))


@given(sizes, sizes)
def test_the_crop_is_centred_whole_and_of_the_targets_shape(frame: tuple[int, int], target: tuple[int, int]) -> None:
    left, top, width, height = Framing.of(frame, target)
    assert np.isclose(width / height, target[0] / target[1])
    assert np.isclose(2 * left + width, frame[0]) and np.isclose(2 * top + height, frame[1])
    assert np.isclose(width, frame[0]) or np.isclose(height, frame[1])


@given(sizes, sizes, st.floats(-2, 2), st.floats(-2, 2), st.floats(1, 9))
def test_projecting_and_moving_commute(
    frame: tuple[int, int], target: tuple[int, int], x: float, y: float, z: float
) -> None:
    K = np.array([[700.0, 3.0, 310.0], [0, 650.0, 260.0], [0, 0, 1]])
    framing = Framing.of(frame, target)
    pixel = K @ [x, y, z]
    moved = framing.intrinsics(K[None])[0] @ np.array([x, y, z])
    expected = framing.points(np.array([*(pixel[:2] / z), 0.7]))
    assert np.allclose(moved[:2] / z, expected[:2], atol=1e-4) and np.isclose(expected[2], 0.7)
