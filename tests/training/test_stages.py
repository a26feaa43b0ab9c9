"""The schedule of the paper, as a pure function of the step."""

import pytest

from training.config import preset
from training.stages import Schedule, StageConfig, stage_at
from training.variants import with_variant


def test_the_papers_schedule() -> None:
    schedule = preset("wan2.2-ti2v-5b", "base").schedule
    assert schedule.steps == 30_000
    assert [stage_at(s, schedule).index for s in (0, 9_999, 10_000, 24_999, 25_000, 29_999)] == [1, 1, 2, 2, 3, 3]
    assert {stage_at(s, schedule).lr for s in (0, 15_000, 29_000)} == {1e-5}
    assert stage_at(0, schedule).mix == {"same_view": 1.0}
    assert stage_at(10_000, schedule).mix == {"same_view": 0.5, "cross_view": 0.5}
    last = stage_at(25_000, schedule)
    assert "same_view" not in last.mix and "internet" not in last.sources


def test_geometry_falls_linearly_to_zero_a_third_into_stage_2() -> None:
    schedule = preset("wan2.2-ti2v-5b", "base").schedule
    weights = [stage_at(s, schedule).geometry_weight for s in (0, 7_500, 14_999, 15_000, 29_999)]
    assert weights == pytest.approx([0.1, 0.05, 0.1 / 15_000, 0, 0])


@pytest.mark.parametrize("step", [-1, 240])
def test_a_step_outside_the_schedule_is_an_error(step: int) -> None:
    with pytest.raises(ValueError, match="outside"):
        stage_at(step, preset("tiny", "base").schedule)


def test_shares_must_sum_to_one() -> None:
    with pytest.raises(ValueError, match="sum to 1"):
        StageConfig("odd", 5, (("same_view", 0.7),), 1e-3)


def test_a_schedule_of_one_stage_ends_geometry_with_it() -> None:
    one = Schedule((StageConfig("only", 10, (("same_view", 1.0),), 1e-3),))
    assert stage_at(9, one).geometry_weight == pytest.approx(0.01)


@pytest.mark.parametrize("variant", ["stage1_only", "stages12"])
def test_a_run_of_the_first_stages_is_the_whole_one_up_to_there(variant: str) -> None:
    config = preset("wan2.2-ti2v-5b", "base")
    whole, cut = config.schedule, with_variant(config, variant).schedule
    for step in (0, 5_000, 9_999, cut.steps - 1):
        assert stage_at(step, cut) == stage_at(step, whole)
    short = cut.in_steps(cut.steps // 10)
    assert stage_at(500, short).geometry_weight == pytest.approx(stage_at(5_000, cut).geometry_weight)


def test_an_unknown_preset_is_named() -> None:
    with pytest.raises(ValueError, match="tiny"):
        preset("huge", "base")


def test_a_schedule_in_other_steps_keeps_its_proportions() -> None:
    schedule = preset("tiny", "base").schedule
    assert schedule.in_steps(64).stage_steps == (24, 24, 16)
    assert schedule.in_steps(1).stage_steps == (1, 1, 1)
    assert schedule.in_steps(240) == schedule
