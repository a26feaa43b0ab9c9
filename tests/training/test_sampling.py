"""Sampling of cells and windows by absolute position."""

from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opendimo.training.sampling import (
    Cell,
    Mix,
    Phase,
    Stretch,
    available,
    counts,
    draw,
    draw_batch,
    driver_at,
    weights_of,
    window_at,
)

MIX = {"same_view": 0.5, "cross_view": 0.5}
NAMES = ("a", "b", "c", "d")
weights = st.integers(1, 4).flatmap(
    lambda n: st.lists(st.integers(1, 1000), min_size=n, max_size=n).map(
        lambda values: dict(zip(NAMES, values, strict=False))
    )
)


@st.composite
def runs(make: st.DrawFn) -> tuple[dict[str, dict[str, int]], list[Stretch]]:
    """Return numbers of target windows by kind and source, and stages with random mixes of the kinds."""
    sizes = {
        kind: {s: make(st.integers(1, 6)) for s in make(st.sets(st.sampled_from("xy"), min_size=1))} for kind in "abc"
    }
    stages, stop = [], 0
    for _ in range(make(st.integers(1, 3))):
        kinds = make(st.sets(st.sampled_from("abc"), min_size=1))
        mix = weights_of({kind: make(st.floats(0.05, 1)) for kind in kinds})
        start, stop = stop, stop + make(st.integers(1, 60))
        stages.append(Stretch(start, stop, Mix(mix, {kind: sizes[kind] for kind in mix})))
    return sizes, stages


@given(weights, st.integers(0, 10_000))
def test_counts_are_whole_and_close_to_the_shares(shares: dict[str, int], draws: int) -> None:
    total, before = sum(shares.values()), counts(draws, shares)
    assert sum(before.values()) == draws
    assert all(abs(before[n] - draws * w / total) <= (len(shares) - 1) / 2 for n, w in shares.items())
    after = counts(draws + 1, shares)
    assert sorted(after[name] - before[name] for name in shares) == [0] * (len(shares) - 1) + [1]


@given(weights, st.integers(1, 5))
def test_counts_are_exact_at_multiples_of_the_weights(shares: dict[str, int], times: int) -> None:
    assert counts(times * sum(shares.values()), shares) == {name: times * w for name, w in shares.items()}


@settings(deadline=None, max_examples=60)
@given(runs(), st.integers(1, 7))
def test_after_n_draws_of_a_kind_each_of_its_n_windows_was_drawn_once_in_any_mix_and_across_stages(
    run: tuple[dict[str, dict[str, int]], list[Stretch]], batch: int
) -> None:
    sizes, stages = run
    drawn: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for first in range(0, stages[-1].stop, batch):
        for (kind, source), position in draw(stages, first, min(batch, stages[-1].stop - first)):
            window, _ = window_at(3, (kind, source), position, sizes[kind][source])
            drawn[kind].append((source, window))
    for kind, windows in drawn.items():
        n = sum(sizes[kind].values())
        for start in range(0, len(windows) - n + 1, n):
            assert len(set(windows[start : start + n])) == n


@settings(deadline=None, max_examples=60)
@given(runs(), st.data())
def test_a_batch_is_the_same_whenever_it_is_asked_for(
    run: tuple[dict[str, dict[str, int]], list[Stretch]], data: st.DataObject
) -> None:
    _, stages = run
    whole = draw(stages, 0, stages[-1].stop)
    first = data.draw(st.integers(0, len(whole) - 1))
    count = data.draw(st.integers(1, len(whole) - first))
    assert draw(stages, first, count) == whole[first : first + count]
    positions: dict[Cell, list[int]] = defaultdict(list)
    for cell, position in whole:
        positions[cell].append(position)
    assert all(found == list(range(len(found))) for found in positions.values())  # no walk skips or repeats a place


def test_a_thousand_draws_in_a_mix_are_a_thousand_pairs() -> None:
    whole = Stretch(0, 2000, Mix(weights_of(MIX), {kind: {"internet": 1000} for kind in MIX}))
    seen: dict[str, set[int]] = defaultdict(set)
    for step in range(40):
        for cell, position in draw([whole], 50 * step, 50):
            seen[cell[0]].add(window_at(0, cell, position, 1000)[0])
    assert {kind: len(windows) for kind, windows in seen.items()} == {"same_view": 1000, "cross_view": 1000}


def test_every_batch_follows_the_mix() -> None:
    for shares in (MIX, {"a": 0.3, "b": 0.7}):
        stretch = Stretch(0, 4000, Mix(weights_of(shares), {kind: {"x": 3} for kind in shares}))
        for step in range(1000):
            kinds = Counter(cell[0] for cell, _ in draw([stretch], 4 * step, 4))
            assert all(abs(kinds[kind] - 4 * share) < 1 for kind, share in shares.items())


def test_stated_shares_of_sources_hold_whatever_their_sizes() -> None:
    stretch = Stretch(0, 1000, Mix({"a": 1}, {"a": weights_of({"internet": 0.2, "unreal": 0.8})}))
    assert Counter(cell[1] for cell, _ in draw([stretch], 0, 1000)) == {"internet": 200, "unreal": 800}


def test_an_epoch_is_shuffled_anew() -> None:
    walks = [[window_at(0, ("a", "x"), epoch * 50 + i, 50) for i in range(50)] for epoch in range(2)]
    orders = [[window for window, _ in walk] for walk in walks]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(50)) and orders[0] != orders[1]
    assert [{visit for _, visit in walk} for walk in walks] == [{0}, {1}]
    others = [[window_at(seed, cell, i, 50)[0] for i in range(50)] for seed, cell in ((1, ("a", "x")), (0, ("a", "y")))]
    assert orders[0] not in others


@given(st.integers(0, 99), st.integers(1, 7))
def test_each_driver_of_a_window_comes_once_before_any_comes_twice(window: int, drivers: int) -> None:
    turns = [[driver_at(0, ("a", "x"), window, turn * drivers + k, drivers) for k in range(drivers)] for turn in (0, 1)]
    assert sorted(turns[0]) == sorted(turns[1]) == list(range(drivers))


def test_drivers_are_shuffled_per_window() -> None:
    orders = {tuple(driver_at(0, ("a", "x"), window, visit, 7) for visit in range(7)) for window in range(50)}
    assert len(orders) > 40


@st.composite
def phases(make: st.DrawFn) -> list[Phase]:
    """Return stages with random mixes of two buckets, and of kinds in each."""
    stages, stop = [], 0
    for _ in range(make(st.integers(1, 3))):
        buckets = {name: make(st.integers(1, 5)) for name in make(st.sets(st.sampled_from(["p", "q"]), min_size=1))}
        mixes = {name: Mix({"a": make(st.integers(1, 3)), "b": 1}, {"a": {"x": 1}, "b": {"x": 1}}) for name in buckets}
        start, stop = stop, stop + make(st.integers(1, 30))
        stages.append(Phase(start, stop, buckets, mixes))
    return stages


@settings(deadline=None, max_examples=60)
@given(phases(), st.integers(1, 5))
def test_batches_of_a_bucket_walk_through_its_cells_without_gap_or_repeat(stages: list[Phase], size: int) -> None:
    walks: dict[Cell, list[int]] = defaultdict(list)
    for step in range(stages[-1].stop):
        bucket, drawn = draw_batch(stages, step, size)
        assert len(drawn) == size
        for cell, position in drawn:
            walks[(*cell, bucket)].append(position)
    assert all(walk == list(range(len(walk))) for walk in walks.values())
    for stage in stages:
        steps = range(stage.start, stage.stop)
        found = Counter(draw_batch(stages, step, size)[0] for step in steps)
        shares = {name: weight / sum(stage.buckets.values()) for name, weight in stage.buckets.items()}
        assert all(abs(found[name] - len(steps) * share) <= 1 for name, share in shares.items())
    with pytest.raises(ValueError, match="outside"):
        draw_batch(stages, stages[-1].stop, size)


def test_slots_outside_the_schedule_are_an_error() -> None:
    stretch = Stretch(0, 10, Mix({"a": 1}, {"a": {"x": 1}}))
    with pytest.raises(ValueError, match="outside"):
        draw([stretch], 8, 4)


def test_kinds_without_pairs_give_their_share_to_the_others() -> None:
    assert available(MIX, {"same_view": 3, "cross_view": 0}) == {"same_view": 1.0}
    with pytest.raises(ValueError, match="no training pairs"):
        available(MIX, {})
