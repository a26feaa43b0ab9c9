"""Sampling by absolute position."""

from collections import Counter

import pytest

from training.sampling import available, choose

MIX = {"same_view": 0.5, "cross_view": 0.5}
SIZES = {"same_view": 7, "cross_view": 5}


def test_a_step_is_the_same_whenever_it_is_asked_for() -> None:
    walk = [choose(step, MIX, SIZES, 4, 3) for step in range(20)]
    assert choose(13, MIX, SIZES, 4, 3) == walk[13]
    assert len({str(batch) for batch in walk}) > 15
    assert choose(13, MIX, SIZES, 4, 4) != walk[13]


def test_every_batch_follows_the_mix() -> None:
    assert {tuple(sorted(Counter(k for k, _ in choose(s, MIX, SIZES, 4, 0)).items())) for s in range(50)} == {
        (("cross_view", 2), ("same_view", 2))
    }
    thirds = {"a": 0.3, "b": 0.7}
    kinds = Counter(k for s in range(1000) for k, _ in choose(s, thirds, {"a": 3, "b": 3}, 4, 0))
    assert kinds["a"] / 4000 == pytest.approx(0.3, abs=0.01)


def test_one_kind_is_walked_through_before_it_starts_again() -> None:
    walk = [index for step in range(7) for _, index in choose(step, {"same_view": 1.0}, SIZES, 2, 0)]
    assert sorted(walk[:7]) == sorted(walk[7:]) == list(range(7))
    assert walk[:7] != walk[7:]


def test_kinds_without_pairs_give_their_share_to_the_others() -> None:
    assert available(MIX, {"same_view": 3, "cross_view": 0}) == {"same_view": 1.0}
    with pytest.raises(ValueError, match="no training pairs"):
        available(MIX, {})
