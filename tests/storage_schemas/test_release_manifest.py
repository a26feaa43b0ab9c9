"""Label quality and accuracy in the manifest of a release."""

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from opendimo.storage_schemas.releases.pose_errors import mpjpe, pa_mpjpe
from opendimo.storage_schemas.releases.release import create_release, open_release
from tests.rows import FRAMES, pair, pose
from tests.storage_schemas.release_rows import small_lake

RNG = np.random.default_rng(7)


def test_accuracy_is_measured_where_there_is_truth(tmp_path: Path) -> None:
    lake = small_lake(tmp_path / "lake")
    true = RNG.normal(size=(FRAMES, 52, 3))
    other = true + 2.0  # a translation, which pelvis alignment removes
    other[:, 1:22] += [0.03, 0, 0]
    half = [True] * 6 + [False] * 6
    lake.append("labels", {"poses": [
        pose("a", "true", estimator="truth", joints_3d=true), pose("a", "seen", estimator="multiview", joints_3d=other,
                                                                   valid=half, reprojection=0.5, weight=1.0),
    ]})  # fmt: skip
    lake.append("again", {"pairs": [pair("a", pair_id="2a", pose_id="seen"), pair("b", pair_id="2b")]})
    create_release(lake, "demo")
    manifest = open_release(lake.uri, "demo@1").manifest
    measured = manifest["accuracy"]["multiview"]
    assert (measured["clips"], measured["mpjpe_mm"]) == (1, pytest.approx(30 * 21 / 22, abs=0.01))
    assert 0 < measured["pa_mpjpe_mm"] < measured["mpjpe_mm"]
    assert manifest["accuracy"].keys() == {"multiview", "monocular"}  # also covers the label of `a` that no pair uses
    assert manifest["labels"]["multiview"] == {
        "labels": 1, "valid": 0.5, "weight": {"median": 1.0, "worst_tenth": 1.0},
        "reprojection": {"median": 0.5, "worst_tenth": 0.5},
    }  # fmt: skip
    assert manifest["labels"]["monocular"]["labels"] == 1


def test_a_similarity_costs_nothing_after_alignment_and_a_mirror_image_does() -> None:
    true = RNG.normal(size=(5, 22, 3))
    turned = 1.7 * true @ Rotation.random(5, rng=1).as_matrix() + RNG.normal(size=(5, 1, 3))
    assert pa_mpjpe(turned, true) == pytest.approx(np.zeros(5), abs=1e-9)
    assert (pa_mpjpe(true * [-1, 1, 1], true) > 0.1).all()


def test_position_error_is_the_mean_over_joints_after_moving_the_pelvis() -> None:
    true = RNG.normal(size=(5, 20, 3))
    off = true + 3
    off[:, 1:, 0] += 0.01
    assert mpjpe(off, true) == pytest.approx(np.full(5, 0.01 * 19 / 20))


def test_error_after_alignment_of_a_stretched_octahedron() -> None:
    """By hand: with one axis of the six corners doubled the best scale is 8/12, which leaves 1/3 at each corner."""
    true = np.concatenate([np.eye(3), -np.eye(3)])[None]
    stretched = true * [1, 2, 1] @ Rotation.from_euler("xyz", [1, 2, 3]).as_matrix().T + [4, 5, 6]
    assert pa_mpjpe(stretched, true) == pytest.approx([1 / 3])


def test_alignment_is_as_good_as_that_of_scipy() -> None:
    ours, true = RNG.normal(size=(2, 4, 22, 3))
    for t in range(4):
        a, b = ours[t] - ours[t].mean(0), true[t] - true[t].mean(0)
        turn, _ = Rotation.align_vectors(b, a)
        turned = turn.apply(a)
        scaled = turned * (turned * b).sum() / (a**2).sum()
        expected = np.linalg.norm(scaled - b, axis=1).mean()
        assert pa_mpjpe(ours[t : t + 1], true[t : t + 1])[0] == pytest.approx(expected, rel=1e-6)
