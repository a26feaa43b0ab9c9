"""Sampling of pairs: shares of captures, rotation of drivers, fixed pairs."""

from collections import Counter, defaultdict
from dataclasses import replace

import pytest

from opendimo.training.pool import Pool
from opendimo.training.release import Pair, Pairs
from opendimo.training.schedule import Schedule, StageConfig, stage_at
from tests.training.made_pairs import rig


def one_stage(steps: int, kind: str = "cross_view", **changes: object) -> Schedule:
    return Schedule((replace(StageConfig("only", steps, ((kind, 1.0),), 1e-3), **changes),))


def drawn(pool: Pool, schedule: Schedule, batch: int, seed: int = 0) -> list[Pair]:
    return [
        pair for step in range(schedule.steps) for pair in pool.pairs.take(pool.choose(step, schedule, batch, seed))
    ]


def test_a_capture_counts_by_its_target_windows_whatever_its_drivers() -> None:
    pool = Pool(Pairs.of(rig("two", 2, windows=4) + rig("eight", 8, windows=1)))
    walk = drawn(pool, one_stage(28), 4)  # 2 x 4 + 8 x 1 = 16 windows, 8 + 56 pairs: 7 epochs
    for epoch in range(7):
        assert len({pair.latent_id for pair in walk[16 * epoch : 16 * (epoch + 1)]}) == 16
    assert Counter(pair.capture_id for pair in walk) == {"two": 56, "eight": 56}
    assert len({pair.pair_id for pair in walk}) == 8 + 56  # seven drivers in seven visits


def test_where_targets_have_one_driver_n_draws_are_n_pairs_in_a_mix_and_across_stages() -> None:
    pairs = [pair for k in range(10) for pair in rig(f"rig {k}", 2, windows=3)]
    pairs += [pair for k in range(7) for pair in rig(f"render {k}", 2, windows=2, source="unreal")]
    pool = Pool(Pairs.of(pairs))
    half = (("cross_view", 0.5), ("same_view", 0.5))
    stages = [
        StageConfig("mixed", 13, half, 1e-3),
        StageConfig("other", 20, (("cross_view", 0.9), ("same_view", 0.1)), 1),
    ]
    by_kind: dict[str, list[str]] = defaultdict(list)
    for pair in drawn(pool, Schedule(tuple(stages)), 5):
        by_kind[pair.kind].append(pair.pair_id)
    n = 10 * 6 + 7 * 4
    assert len(by_kind["cross_view"]) > n > len(by_kind["same_view"])
    assert len(set(by_kind["cross_view"][:n])) == n
    assert len(set(by_kind["same_view"])) == len(by_kind["same_view"])


def test_a_source_that_a_stage_leaves_out_goes_on_where_it_was() -> None:
    pool = Pool(Pairs.of(rig("rig", 2, windows=6) + rig("render", 2, windows=6, source="unreal")))
    mix = (("cross_view", 1.0),)
    stages = [
        StageConfig("all", 3, mix, 1e-3),
        StageConfig("renders", 2, mix, 1e-3, ("unreal",)),
        StageConfig("all again", 3, mix, 1e-3),
    ]
    walk = drawn(pool, Schedule(tuple(stages)), 4)
    assert {pair.source_kind for pair in walk[12:20]} == {"unreal"}
    renders = [pair.pair_id for pair in walk if pair.source_kind == "unreal"]
    assert len(set(renders[:12])) == 12
    rigs = [pair.pair_id for pair in walk if pair.source_kind == "multiview"]
    assert len(rigs) == len(set(rigs)) == 12


def test_stated_shares_of_sources_replace_those_by_size() -> None:
    pool = Pool(Pairs.of(rig("rig", 2, windows=30) + rig("render", 2, windows=2, source="unreal")))
    shares = (("unreal", 0.5), ("multiview", 0.25), ("internet", 0.25))
    walk = drawn(pool, one_stage(15, source_shares=shares), 4)
    assert Counter(pair.source_kind for pair in walk) == {"unreal": 40, "multiview": 20}
    only = stage_at(0, one_stage(1, source_shares=(("internet", 1.0),)))
    with pytest.raises(ValueError, match="no training pairs of cross_view"):
        pool.mix(only)


def test_fixed_pairs_are_spread_over_captures() -> None:
    pairs = rig("eight", 8, windows=4) + [pair for k in range(5) for pair in rig(f"rig {k}", 2, windows=2)]
    pool = Pool(Pairs.of(pairs))
    chosen = pool.pairs.take(pool.fixed("cross_view", 12, seed=1))
    assert sorted(Counter(pair.capture_id for pair in chosen).values()) == [2] * 6
    assert len({pair.pair_id for pair in chosen}) == 12
    assert {pair.kind for pair in chosen} == {"cross_view"}
    assert pool.pairs.take(pool.fixed("cross_view", 12, seed=1)) == chosen
    assert pool.pairs.take(pool.fixed("cross_view", 12, seed=2)) != chosen


def test_of_too_few_pairs_the_fixed_ones_come_again() -> None:
    pool = Pool(Pairs.of(rig("rig", 2, windows=1)))
    assert sorted(Counter(pool.fixed("cross_view", 5, seed=0).tolist()).values()) == [2, 3]
    with pytest.raises(ValueError, match="no moving_camera pairs"):
        pool.fixed("moving_camera", 1, seed=0)
    with pytest.raises(ValueError, match="from unreal"):
        pool.fixed("cross_view", 1, seed=0, sources=("unreal",))


def test_another_driver_is_of_another_capture_and_subject() -> None:
    ann = rig("ann walks", 2, 1, subject="ann")
    pairs = ann + rig("ann runs", 2, 1, subject="ann") + rig("unknown", 2, 1) + rig("bob", 2, 1, subject="bob")

    def other_captures(among: list[Pair], pair: Pair) -> set[str]:
        pool = Pool(Pairs.of(among))
        others = [pool.pairs[pool.other_driver(pair, seed)] for seed in range(30)]
        return {other.capture_id for other in others}

    assert other_captures(pairs, ann[0]) == {"bob"}
    assert other_captures([p for p in pairs if p.subject != "bob"], ann[0]) == {"unknown"}
    assert other_captures([p for p in pairs if p.subject == "ann"], ann[0]) == {"ann runs"}
    assert other_captures(pairs, next(p for p in pairs if p.subject is None)) == {"ann walks", "ann runs", "bob"}
    elsewhere = rig("of the other split", 2, 1, subject="eve")[0]
    assert other_captures(pairs, elsewhere) == {"ann walks", "ann runs", "bob"}


def test_another_driver_has_the_same_window_length() -> None:
    [first, *_], longer = rig("one", 2, 1), [replace(pair, num_frames=13) for pair in rig("two", 2, 1)]
    with pytest.raises(ValueError, match="no pair from another capture than 'one'"):
        Pool(Pairs.of([first, *longer])).other_driver(first, 0)


def test_the_pairs_of_no_release_are_none() -> None:
    pool = Pool(Pairs.of([]))
    assert len(pool.pairs) == 0 and not pool.cells
    with pytest.raises(ValueError, match="no training pairs"):
        pool.mix(stage_at(0, one_stage(1)))
