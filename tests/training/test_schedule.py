"""The training schedule as a pure function of the step."""

import math
from dataclasses import replace

import pytest

from opendimo.training.config import preset
from opendimo.training.schedule import Schedule, StageConfig, stage_at, three_stages
from opendimo.training.variants import with_variant


def test_the_papers_schedule() -> None:
    schedule = preset("wan2.2-ti2v-5b", "base").schedule
    assert schedule.steps == 30_000
    assert [stage_at(s, schedule).index for s in (0, 9_999, 10_000, 24_999, 25_000, 29_999)] == [1, 1, 2, 2, 3, 3]
    assert {stage_at(s, schedule).lr for s in (0, 15_000, 29_000)} == {1e-5}
    assert stage_at(0, schedule).mix == {"same_view": 1.0}
    assert stage_at(10_000, schedule).mix == {"same_view": 0.5, "cross_view": 0.5}
    last = stage_at(25_000, schedule)
    assert "same_view" not in last.mix and "internet" not in last.sources


def test_geometry_is_held_in_stage_1_and_gone_a_third_into_stage_2() -> None:
    schedule = preset("wan2.2-ti2v-5b", "base").schedule
    weights = [stage_at(s, schedule).geometry_weight for s in (0, 10_000, 12_500, 15_000, 29_999)]
    assert weights == pytest.approx([1, 1, 0.5, 0, 0])


LEARNING = replace(
    three_stages((10, 20, 10), lr=1.0),
    encoder_steps=8.0,
    warmup=4.0,
    final_lr=0.1,
    encoder_lr_alone=0.5,
    encoder_lr=0.25,
)


def test_the_encoder_trains_first_and_slower_afterwards() -> None:
    points = [stage_at(step, LEARNING) for step in range(40)]
    assert [p.trains_generator for p in points] == [False] * 8 + [True] * 32
    assert all(p.encoder_lr == pytest.approx(0.5 * p.lr) for p in points[:8])
    assert all(p.encoder_lr == pytest.approx(0.25 * p.lr) for p in points[8:])


def test_the_generator_reads_tokens_that_stay_before_all_is_trained() -> None:
    points = [
        stage_at(step, replace(LEARNING, reading_steps=6.0, geometry_hold=20.0, geometry_end=30.0))
        for step in range(20)
    ]
    assert [p.trains_encoder for p in points] == [True] * 8 + [False] * 6 + [True] * 6
    assert [p.geometry_weight for p in points] == [1.0] * 8 + [0.0] * 6 + [1.0] * 6


def test_rates_rise_twice_and_fall_along_a_cosine() -> None:
    lr = [stage_at(step, LEARNING).lr for step in range(40)]
    cosine = [0.1 + 0.9 * (0.5 + 0.5 * math.cos(math.pi * k / 32)) for k in range(32)]
    assert lr[8:12] == pytest.approx([(k + 1) / 4 * cosine[k] for k in range(4)])
    assert lr[12:] == pytest.approx(cosine[4:])
    assert lr[0] == pytest.approx(0.25) and lr[7] < lr[4]


def test_perspective_grows_from_none_to_all() -> None:
    schedule = replace(LEARNING, perspective_start=10.0, perspective_full=20.0)
    assert [stage_at(s, schedule).perspective for s in (0, 10, 15, 20, 39)] == pytest.approx([0, 0, 0.5, 1, 1])
    assert stage_at(0, LEARNING).perspective == 1


@pytest.mark.parametrize("step", [-1, 240])
def test_a_step_outside_the_schedule_is_an_error(step: int) -> None:
    with pytest.raises(ValueError, match="outside"):
        stage_at(step, preset("tiny", "base").schedule)


def test_shares_must_sum_to_one() -> None:
    with pytest.raises(ValueError, match="sum to 1"):
        StageConfig("odd", 5, (("same_view", 0.7),), 1e-3)


def test_a_schedule_of_one_stage_ends_geometry_with_it() -> None:
    one = Schedule((StageConfig("only", 10, (("same_view", 1.0),), 1e-3),))
    assert stage_at(9, one).geometry_weight == 1


@pytest.mark.parametrize("variant", ["stage1_only", "stages12"])
def test_a_run_of_the_first_stages_is_the_whole_one_up_to_there(variant: str) -> None:
    config = preset("wan2.2-ti2v-5b", "base")
    whole, cut = config.schedule, with_variant(config, variant).schedule
    for step in (0, 5_000, 9_999, cut.steps - 1):
        assert stage_at(step, cut) == stage_at(step, whole)
    short = cut.in_steps(cut.steps // 10)
    assert stage_at(900, short).geometry_weight == pytest.approx(stage_at(9_000, cut).geometry_weight)


def test_an_unknown_preset_is_named() -> None:
    with pytest.raises(ValueError, match="tiny"):
        preset("huge", "base")


def test_a_schedule_in_other_steps_keeps_its_proportions() -> None:
    schedule = preset("tiny", "base").schedule
    assert schedule.in_steps(64).stage_steps == (24, 24, 16)
    assert schedule.in_steps(1).stage_steps == (1, 1, 1)
    assert schedule.in_steps(240) == schedule
