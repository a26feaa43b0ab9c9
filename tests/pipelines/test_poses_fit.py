"""Tests of the fit: it recovers a motion from observations of its joints; tests of its parts."""

import numpy as np
import pytest
import roma
import torch
from scipy.fft import idct
from scipy.spatial.transform import Rotation

from opendimo.model.body.load import Body, load_body
from opendimo.model.body.skeleton import JOINTS
from opendimo.pipelines.poses.fit import fit
from opendimo.pipelines.poses.fit_config import FitConfig
from opendimo.pipelines.poses.initial import first_guess
from opendimo.pipelines.poses.kinematics import forward
from opendimo.pipelines.poses.limits import limits
from opendimo.pipelines.poses.mapping import GROUP, POINTS
from opendimo.pipelines.poses.metric import inverse_dct
from opendimo.pipelines.poses.motion import Motion, points_of
from opendimo.pipelines.poses.objective import Seen, Target
from opendimo.storage_schemas.conventions import project
from opendimo.storage_schemas.releases.pose_errors import mpjpe, pa_mpjpe

FRAMES, FPS = 24, 30.0
SIDES = ("left", "right")


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body()


def set_joint(pose: np.ndarray, name: str, angles: np.ndarray) -> None:
    pose[:, JOINTS.index(name) - 1] = angles


def dance(body: Body) -> Motion:
    """Return the motion of a person 3.5 m in front of the camera who waves, bends the knees, leans, turns by 60 degrees
    and closes the hands."""
    phase = np.linspace(0, 2 * np.pi, FRAMES)[:, None]
    pose, zero = np.zeros((FRAMES, 51, 3)), 0 * phase
    for side, sign in zip(SIDES, (1, -1), strict=True):
        set_joint(pose, f"{side}_shoulder", np.hstack([zero, -sign * 0.4 + zero, sign * (-0.7 + 0.5 * np.sin(phase))]))
        set_joint(pose, f"{side}_elbow", np.hstack([zero, -sign * (0.9 + 0.4 * np.cos(phase)), zero]))
        set_joint(pose, f"{side}_hip", np.hstack([-0.5 + 0.3 * np.sin(phase + sign), zero, sign * 0.1 + zero]))
        set_joint(pose, f"{side}_knee", np.hstack([0.7 + 0.4 * np.cos(phase + sign), zero, zero]))
        for finger in ("index", "middle", "ring", "pinky"):
            for k in (1, 2, 3):
                set_joint(pose, f"{side}_{finger}{k}", np.hstack([zero, zero, -sign * (0.5 + 0.3 * np.sin(phase))]))
    set_joint(pose, "spine2", np.hstack([0.1 * np.sin(phase), 0.15 * np.cos(phase), zero]))
    facing = Rotation.from_euler("x", np.pi)  # the body's Y up to the camera's y down, facing the camera
    root = facing * Rotation.from_euler("y", np.linspace(-0.5, 0.5, FRAMES)[:, None])
    betas = np.zeros(10, np.float32)
    betas[0] = 0.8
    transl = np.hstack([0.2 * np.sin(phase), 0.05 * np.cos(phase), 3.5 + 0.1 * np.sin(phase)])
    arrays = [root.as_rotvec(), pose[:, :21], pose[:, 21:].reshape(FRAMES, 2, 15, 3), transl, betas]
    arrays = [np.float32(a) for a in arrays]
    with torch.no_grad():
        joints = body.joints(*(torch.tensor(a) for a in arrays)).numpy()
    return Motion(*arrays, joints)


def one_view(points: np.ndarray, K: np.ndarray, pixel_noise: float, shape_noise: float) -> Target:
    """Return the target that a landmark model would give for true points [T, P, 3] in the camera frame."""
    rng = np.random.default_rng(0)
    confidence = np.where(GROUP == 0, 0.9, 1.0)[None, :, None].repeat(len(points), 0)
    pixels = project(points, K) + rng.normal(0, pixel_noise, (*points.shape[:2], 2))
    palm = np.linalg.norm(points[0, JOINTS.index("left_middle1")] - points[0, JOINTS.index("left_wrist")])
    unit = np.where(GROUP == 0, 1, palm)[:, None]
    shape = (points + rng.normal(0, shape_noise, points.shape) * unit / unit.max()) / unit
    return Target(
        FPS,
        (Seen(np.concatenate([pixels, confidence], 2), K, np.broadcast_to(np.eye(3, 4), (len(points), 3, 4))),),
        shape=np.concatenate([shape, confidence], 2),
    )


@pytest.fixture(scope="module")
def K() -> np.ndarray:
    return np.broadcast_to(np.array([[900.0, 0, 319.5], [0, 900, 239.5], [0, 0, 1]]), (FRAMES, 3, 3))


def test_one_view_with_noise_finds_the_motion_again(body: Body, K: np.ndarray) -> None:
    true = dance(body)
    found = fit(body, one_view(points_of(body, true), K, pixel_noise=2.0, shape_noise=0.03), FitConfig())
    assert 1000 * pa_mpjpe(found.joints[:, :22], true.joints[:, :22]).mean() < 20
    hands = slice(22, 52)
    assert 1000 * mpjpe(found.joints[:, hands], true.joints[:, hands]).mean() < 25


def test_triangulated_points_find_place_and_pose_again(body: Body) -> None:
    true = dance(body)
    points = points_of(body, true) + np.random.default_rng(1).normal(0, 0.005, (FRAMES, len(POINTS), 3))
    target = Target(FPS, points=np.concatenate([points, np.ones((FRAMES, len(POINTS), 1))], 2))
    found = fit(body, target, FitConfig())
    assert 1000 * np.linalg.norm(found.joints - true.joints, axis=-1).mean() < 10
    assert 1000 * pa_mpjpe(found.joints, true.joints).mean() < 10


def test_the_parameters_give_the_joints(body: Body, K: np.ndarray) -> None:
    found = fit(body, one_view(points_of(body, dance(body)), K, 1.0, 0.02), FitConfig(iterations=3))
    arrays = (found.global_orient, found.body_pose, found.hand_pose, found.transl, found.betas)
    again = body.joints(*(torch.tensor(a) for a in arrays)).numpy()
    assert np.abs(again - found.joints).max() < 1e-5


def test_noise_over_time_is_smoothed(body: Body, K: np.ndarray) -> None:
    target = one_view(points_of(body, dance(body)), K, pixel_noise=4.0, shape_noise=0.05)
    found = fit(body, target, FitConfig())
    assert target.shape is not None
    motions = (target.shape[:, :22, :3], found.joints[:, :22])
    before, after = (np.linalg.norm(np.diff(j, 2, axis=0), axis=-1).mean() for j in motions)
    assert after < 0.2 * before


def test_frames_without_observation_are_bridged(body: Body) -> None:
    true = dance(body)
    points = np.concatenate([points_of(body, true), np.ones((FRAMES, len(POINTS), 1))], 2)
    points[10:13] = 0
    found = fit(body, Target(FPS, points=points), FitConfig())
    assert 1000 * np.linalg.norm(found.joints - true.joints, axis=-1)[10:13, :22].mean() < 30


def test_nothing_observed_is_refused(body: Body) -> None:
    with pytest.raises(ValueError, match="no body was observed"):
        fit(body, Target(FPS, points=np.zeros((4, len(POINTS), 4))), FitConfig())


def test_limits_are_mirror_images() -> None:
    """Elbows bend forward, the left about -Y, the right about +Y (Y up, facing +Z, left is +X); knees back about +X."""
    least, most = (t.numpy() for t in limits())
    left, right, knee = (JOINTS.index(n) - 1 for n in ("left_elbow", "right_elbow", "left_knee"))
    assert least[left, 1] < -2 and most[left, 1] < 0.2
    assert most[right, 1] > 2 and least[right, 1] > -0.2
    assert most[knee, 0] > 2 and least[knee, 0] > -0.2
    forearm = Rotation.from_rotvec([0, -np.pi / 2, 0]).apply([1, 0, 0])
    assert forearm[2] > 0.99  # the left forearm, along +X at rest, points forward


def test_fast_kinematics_are_those_of_the_body(body: Body) -> None:
    angles = torch.randn(5, 52, 3, generator=torch.Generator().manual_seed(0)) * 0.7
    betas, transl = torch.linspace(-1, 1, 10), torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    rest = body.rest_joints(betas)
    posed = forward(rest, roma.rotvec_to_rotmat(angles), transl + rest[0])
    expected = body.joints(angles[:, 0], angles[:, 1:22], angles[:, 22:].reshape(5, 2, 15, 3), transl, betas)
    assert (posed.joints - expected).abs().max() < 1e-5


def test_the_first_guess_is_exact_for_hinges_and_straight_spines(body: Body) -> None:
    rest = body.rest_joints(torch.zeros(10))
    angles = torch.randn(7, 52, 3, generator=torch.Generator().manual_seed(2)) * 0.3
    stiff = [
        i for i, name in enumerate(JOINTS) if name.startswith("spine") or name.endswith("collar") or name == "neck"
    ]
    angles[:, stiff] = 0
    posed = forward(rest, roma.rotvec_to_rotmat(angles), torch.zeros(7, 3))
    rest_points = forward(rest, torch.eye(3).expand(1, 52, 3, 3), rest[None, 0]).points[0].double().numpy()
    local = first_guess(rest_points, posed.points.double().numpy(), np.ones(len(POINTS), bool))
    guessed = forward(rest, torch.tensor(local, dtype=torch.float32), torch.zeros(7, 3))
    assert (guessed.joints - posed.joints).abs().max() < 1e-3


def test_inverse_cosine_transform() -> None:
    x = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    assert np.abs(inverse_dct(torch.tensor(x)).numpy() - idct(x, axis=0, norm="ortho")).max() < 1e-5
