"""Counter-based random numbers."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from opendimo.training.noise import normal, philox


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [  # the known-answer tests of Random123
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_the_words_are_those_of_the_published_generator(
    counter: tuple[int, ...], key: tuple[int, ...], words: tuple[int, ...]
) -> None:
    c0, c1, c2, c3 = (torch.tensor([word]) for word in counter)
    found = philox((c0, c1, c2, c3), (torch.tensor([key[0]]), torch.tensor([key[1]])))
    assert tuple(int(word) for word in found) == words


def test_numbers_are_standard_normal_and_independent_of_each_other() -> None:
    drawn = normal([5, 6], (3, 100, 101), "cpu").double()
    assert drawn.shape == (2, 3, 100, 101) and drawn.isfinite().all()
    flat = drawn.flatten(1).numpy()
    assert all(kstest(sample, "norm").pvalue > 0.001 for sample in flat)
    for other in (flat[1], np.roll(flat[0], 1), np.roll(flat[0], 2), np.roll(flat[0], 4)):
        assert abs(np.corrcoef(flat[0], other)[0, 1]) < 0.03


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=5, unique=True), st.integers(1, 40))
def test_a_sample_depends_on_its_key_only(keys: list[int], count: int) -> None:
    drawn = normal(keys, (count,), "cpu")
    for key, sample in zip(keys, drawn, strict=True):
        assert torch.equal(sample, normal([key], (count,), "cpu")[0])
        assert torch.equal(sample, normal([key], (count + 3,), "cpu")[0, :count])
    if count > 3:
        assert len({tuple(sample.tolist()) for sample in drawn}) == len(keys)


DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.mark.parametrize("device", DEVICES)
def test_every_device_gives_the_numbers_of_box_and_muller(device: str) -> None:
    key, count = 2**62 + 3, 1000
    words = philox(
        (torch.arange(count // 4), *(torch.zeros(count // 4, dtype=torch.int64),) * 3),
        (torch.tensor([key & 0xFFFFFFFF]), torch.tensor([key >> 32])),
    )
    upper = [word.numpy() >> 8 for word in words]
    radii = [np.sqrt(-2 * np.log((first + 1.0) / 2**24)) for first in upper[::2]]
    angles = [2 * np.pi * second / 2**24 for second in upper[1::2]]
    expected = np.stack([f(a) * r for r, a in zip(radii, angles, strict=True) for f in (np.cos, np.sin)], axis=-1)
    assert np.allclose(normal([key], (count,), device)[0].cpu(), expected.flatten(), atol=1e-5)
