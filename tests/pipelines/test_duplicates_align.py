"""Memory of aligning two clips, by their length."""

import tracemalloc

import numpy as np
import pytest

from opendimo.pipelines.duplicates.align import same_footage
from opendimo.pipelines.duplicates.pictures import SIDE


def test_memory_goes_with_the_length_of_clips_and_not_with_its_square() -> None:
    """Two clips of four minutes: a matrix over all pairs of moments would take over 100 MiB."""
    steps = np.random.default_rng(0).normal(0, 3, (2400, SIDE, SIDE))
    pictures = np.clip(128 + np.cumsum(steps, 0), 0, 255).astype(np.uint8)
    tracemalloc.start()
    found = same_footage(pictures[70:], 0.1, pictures, 0.1)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found is not None and found.offset == pytest.approx(7.0)
    assert most < 100 << 20
