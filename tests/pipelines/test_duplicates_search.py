"""Hashes: effects of mirroring and brightness, and that near ones are found."""

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from opendimo.pipelines.duplicates.fingerprint import Fingerprint, pictures_of, searched_hashes
from opendimo.pipelines.duplicates.pictures import MIRROR, SIDE, distances, frequencies, hashes
from opendimo.pipelines.duplicates.search import CROWD, RADIUS, HashIndex

PICTURES = st.integers(0, 1 << 32).map(lambda seed: np.random.default_rng(seed).integers(0, 256, (5, SIDE, SIDE)))
HASHES = st.lists(st.integers(0, (1 << 64) - 1), min_size=1, max_size=30)


@given(PICTURES)
def test_a_mirrored_picture_has_the_mirrored_hash(pictures: np.ndarray) -> None:
    straight, mirrored = (hashes(frequencies(p)) for p in (pictures, pictures[:, :, ::-1]))
    assert (straight ^ MIRROR == mirrored).all()


@given(PICTURES)
def test_frequencies_are_those_of_opencv(pictures: np.ndarray) -> None:
    wanted = [cv2.dct(p.astype(np.float32))[:8, :8].ravel() for p in pictures]
    assert np.allclose(frequencies(pictures), wanted, atol=1e-2)


def test_light_and_contrast_change_nothing() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (9, SIDE, SIDE))
    assert (hashes(frequencies(pictures)) == hashes(frequencies(0.5 * pictures + 40))).all()


def test_flat_pictures_are_not_searched_for() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE))
    pictures = np.concatenate([np.full((4, SIDE, SIDE), 90), noise]).astype(np.uint8)
    assert len(searched_hashes(pictures)) == 2 * 3  # whole and middle


@given(HASHES, st.lists(st.integers(0, 63), max_size=3, unique=True), st.randoms())
def test_what_differs_in_three_bits_is_found(values: list[int], bits: list[int], random: object) -> None:
    known = np.array(values, np.uint64)
    index = HashIndex.of(known, np.arange(len(known), dtype=np.int32))
    asked = random.randrange(len(known))  # type: ignore[attr-defined]
    found, _ = index.near(known[asked : asked + 1] ^ np.uint64(sum(1 << bit for bit in bits)))
    assert asked in found


@given(HASHES, HASHES)
def test_nothing_far_is_found_and_votes_do_not_depend_on_the_order(values: list[int], wanted: list[int]) -> None:
    known, asked = np.array(values, np.uint64), np.array(wanted, np.uint64)
    owners = np.arange(len(known), dtype=np.int32) % 7
    one = HashIndex.of(known, owners).near(asked)
    other = HashIndex.of(known[::-1].copy(), owners[::-1].copy()).near(asked[::-1].copy())
    assert all((a == b).all() for a, b in zip(one, other, strict=True))
    near = distances(known[:, None], asked[None]) <= RADIUS
    assert set(one[0]) <= {owners[k] for k in np.flatnonzero(near.any(1))}


def test_a_hash_that_everybody_has_is_not_looked_at() -> None:
    known = np.zeros(CROWD + 1, np.uint64)
    found, _ = HashIndex.of(known, np.arange(len(known), dtype=np.int32)).near(known[:1])
    assert len(found) == 0


def test_black_borders_are_left_out() -> None:
    noise = np.random.default_rng(1).integers(30, 256, (12, 90, 160)).astype(np.uint8)
    images = np.stack([cv2.GaussianBlur(image, (0, 0), 9) for image in noise])
    boxed = np.pad(images, ((0, 0), (20, 20), (0, 0)))
    whole, without = Fingerprint(10.0), Fingerprint(10.0)
    for image, wider in zip(images, boxed, strict=True):
        whole.add(image), without.add(wider)
    a, b = (hashes(frequencies(pictures_of(f.columns()["pictures"]))) for f in (whole, without))
    assert np.median(distances(a, b)) <= 6


def test_a_picture_is_taken_ten_times_a_second() -> None:
    steps = {fps: Fingerprint(fps).step for fps in (6, 10, 24, 29.97, 30, 60)}
    assert steps == {6: 1, 10: 1, 24: 2, 29.97: 3, 30: 3, 60: 6}
