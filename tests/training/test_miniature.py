"""Test the miniature: ground truth is exact, limbs are detected by colour, and the method learns."""

from pathlib import Path

import numpy as np
import pytest
import torch

from opendimo.model.body.skeleton import JOINTS
from opendimo.storage_schemas.conventions import project, transform
from opendimo.storage_schemas.media.video import centre_crop
from opendimo.training.log import read_metrics
from opendimo.training.miniature.arms import ARMS, SIZES, arm_config
from opendimo.training.miniature.colours import LIMBS, MIN_AREA, limb_centres, limb_errors, limb_overlap
from opendimo.training.miniature.lake import TARGETS, WorldConfig, miniature_release
from opendimo.training.miniature.people import make_studio_take
from opendimo.training.miniature.run import gate, table
from opendimo.training.miniature.world import MAX_GAP, PICTURE, Take, make_take, mannequin
from opendimo.training.release import read_pairs
from opendimo.training.tiny_base import PRETRAINED
from opendimo.training.trainer import train


@pytest.fixture(scope="module")
def takes() -> list[Take]:
    return [make_take(number) for number in range(6)]


@pytest.fixture(scope="module")
def studio_take() -> Take:
    return make_studio_take(3)


def test_takes_are_deterministic(takes: list[Take]) -> None:
    again = make_take(3)
    assert all(np.array_equal(a.frames, b.frames) for a, b in zip(takes[3].views, again.views, strict=True))


def test_joints_agree_between_cameras_and_images(takes: list[Take], studio_take: Take) -> None:
    for take in (*takes, studio_take):
        first, second = take.views[:2]
        rotation, shift = first.world_to_camera[:, :, :3], first.world_to_camera[:, :, 3]
        world = np.einsum("tji,tnj->tni", rotation, first.joints_3d - shift[:, None])
        np.testing.assert_allclose(transform(world, second.world_to_camera), second.joints_3d, atol=1e-4)
        np.testing.assert_allclose(project(second.joints_3d, second.K), second.joints_2d, atol=1e-3)


def test_cameras_are_within_the_maximum_gap_and_people_within_the_image(takes: list[Take]) -> None:
    views = [view for take in takes for view in take.views]
    assert all(abs(view.azimuth - take.views[0].azimuth) <= MAX_GAP for take in takes for view in take.views)
    inside = np.concatenate([((v.joints_2d > 0) & (v.joints_2d < PICTURE)).all(-1).ravel() for v in views])
    assert inside.mean() > 0.95


def test_limbs_are_detected_by_colour_at_their_joints(takes: list[Take]) -> None:
    between = {"forearm": ("elbow", "wrist"), "shin": ("knee", "ankle", "foot")}
    errors: dict[str, list[float]] = {part: [] for part in between}
    for view in (take.views[0] for take in takes):
        centres, areas = limb_centres(centre_crop(view.frames, TARGETS["limbs"], TARGETS["limbs"]))
        joints = view.joints_2d * TARGETS["limbs"] / PICTURE
        for number, limb in enumerate(LIMBS):
            side, _, part = limb.partition("_")
            if part in between:
                ends = sum(joints[:, JOINTS.index(f"{side}_{end}")] for end in between[part])
                errors[part] += list(
                    np.linalg.norm(centres[:, number] - ends / len(between[part]), axis=-1)[
                        areas[:, number] >= MIN_AREA
                    ]
                )
    for part, median in (("forearm", 0.5), ("shin", 0.9)):  # pixels
        assert len(errors[part]) > 40 and np.median(errors[part]) < median and np.percentile(errors[part], 90) < 1.5


def test_the_true_clip_has_no_error_and_a_still_image_has(takes: list[Take]) -> None:
    frames = centre_crop(takes[0].views[0].frames, TARGETS["limbs"], TARGETS["limbs"])
    still = np.repeat(frames[:1], len(frames), axis=0)
    assert limb_errors(frames, frames, 20).max() == 0 and limb_overlap(frames, frames) == 1
    assert np.median(limb_errors(still, frames, 20)) > 0.05 and limb_overlap(still, frames) < 0.7


def test_a_release_holds_out_people_and_every_kind_of_pair(tmp_path: Path) -> None:
    config = WorldConfig(takes=12, subjects=6, test_subjects=2)
    release = miniature_release(tmp_path / "lake", PRETRAINED, config)
    sides = {split: list(read_pairs(release, split)) for split in ("train", "test")}
    assert {pair.kind for pair in sides["train"]} == {"same_view", "cross_view", "moving_camera"}
    people = {split: {pair.subject for pair in pairs} for split, pairs in sides.items()}
    assert len(people["train"]) == 4 and len(people["test"]) == 2 and not people["train"] & people["test"]
    assert miniature_release(tmp_path / "lake", PRETRAINED, config).sha256 == release.sha256


def test_labels_of_studio_takes_match_the_rendered_body(studio_take: Take) -> None:
    """Forward kinematics of pose and root gives the directions of limbs in every view, whatever the person's shape."""
    length = len(studio_take.body_pose)
    for view in studio_take.views:
        turns = torch.tensor(np.concatenate([view.root[:, None], studio_take.body_pose], 1)).float()
        hands = torch.tensor(studio_take.hand_pose).float()
        with torch.no_grad():
            joints = mannequin().joints(turns[:, 0], turns[:, 1:], hands, torch.zeros(length, 3), torch.zeros(10))
        limbs = [JOINTS.index(name) for name in ("left_elbow", "right_knee", "head")]
        true = view.joints_3d[:, limbs] - view.joints_3d[:, :1]
        made = (joints[:, limbs] - joints[:, :1]).numpy()
        cosine = (true * made).sum(-1) / np.linalg.norm(true, axis=-1) / np.linalg.norm(made, axis=-1)
        assert cosine.min() > 0.98


@pytest.mark.parametrize("arm", ARMS)
def test_arms_differ_from_the_full_one_and_train_the_generator_for_as_many_steps(arm: str) -> None:
    full, config = arm_config(PRETRAINED, SIZES["smoke"], "full", 0), arm_config(PRETRAINED, SIZES["smoke"], arm, 0)
    steps = [c.schedule.steps - c.schedule.encoder_steps for c in (full, config)]
    assert steps[0] == steps[1] == SIZES["smoke"].generator_steps and config.variant == arm
    assert (config == full) == (arm == "full")


def test_an_unknown_arm_raises() -> None:
    with pytest.raises(ValueError, match="no arm 'none': choose one of full"):
        arm_config(PRETRAINED, SIZES["smoke"], "none", 0)


def test_the_table_gives_means_and_ranges() -> None:
    rows = [{"arm": "full", "seed": seed, "gap_cross_view": gap} for seed, gap in enumerate((0.2, 0.4))]
    assert "| `full` | 2 | 0.300 (0.200 to 0.400) |" in table(rows)


@pytest.mark.timeout(900)
def test_a_short_training_uses_the_driver(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    size = SIZES["smoke"]
    release = miniature_release(tmp_path / "lake", PRETRAINED, WorldConfig(size.takes))
    config = arm_config(PRETRAINED, size, "full", 0)
    assert size.gate_steps == size.encoder_steps  # so that training resumes after the gate
    result = gate(tmp_path / "run", release, config)
    assert result["gate_r2"] > size.gate_r2 > 0  # an encoder that ignores its input has at most 0
    train(release, config, tmp_path / "run")
    [check] = [r for r in read_metrics(tmp_path / "run" / "metrics.jsonl") if r.get("event") == "driver_check"][-1:]
    losses = check["by_kind"]["cross_view"]
    assert losses["other"] > losses["true"]
