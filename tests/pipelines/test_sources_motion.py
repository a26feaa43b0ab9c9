"""True SMPL-X parameters reproduce the true joints when posed by the body model in the world."""

import numpy as np
import pytest
import torch

from opendimo.model.body.load import load_body
from opendimo.model.body.mannequin import mannequin_file
from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.sources.renders.motion import truth
from opendimo.pipelines.sources.renders.unreal_axes import point, world_from_body


@pytest.fixture
def motion(tmp_path):
    random = np.random.default_rng(3)
    path = tmp_path / "who_0001.npz"
    poses = random.normal(0, 0.4, (8, 165)).astype(np.float32)
    trans = random.normal(0, 1, (8, 3)).astype(np.float32)
    betas = random.normal(0, 1, 10).astype(np.float32)
    np.savez(path, poses=poses, trans=trans, betas=betas, mocap_frame_rate=30)
    return path, poses, trans, betas


def tensor(array):
    return torch.tensor(np.asarray(array), dtype=torch.float32)


def test_parameters_in_the_world_give_the_joints_in_the_world(motion):
    path, *_ = motion
    true = truth(path, 2, 5, [300.0, -40.0, 10.0], 35.0, 30.0, str(mannequin_file()))
    parameters = (true.global_orient, true.body_pose, true.hand_pose, true.transl, true.betas)
    joints = load_body().joints(*map(tensor, parameters)).numpy()
    assert true.joints.shape == (5, 52, 3)
    assert joints == pytest.approx(true.joints, abs=1e-4)


def test_placement_is_that_of_the_format_notes(motion):
    path, poses, trans, betas = motion
    true = truth(path, 0, 8, [300.0, -40.0, 10.0], 35.0, 30.0, str(mannequin_file()))
    hands = np.stack([poses[:, 75:120], poses[:, 120:165]], axis=1).reshape(8, 2, 15, 3)
    body = load_body().joints(*map(tensor, (poses[:, :3], poses[:, 3:66].reshape(8, 21, 3), hands, trans, betas)))
    expected = body.numpy() @ world_from_body(35.0).T + point([300.0, -40.0, 10.0])
    assert true.joints == pytest.approx(expected, abs=1e-4)


def test_rest_joints_in_the_file_need_no_body_model(motion, tmp_path):
    path, poses, trans, betas = motion
    from opendimo.model.body.skeleton import PARENTS

    rest = load_body().rest_joints(tensor(betas)).numpy()
    np.savez(tmp_path / "own.npz", poses=poses, trans=trans, betas=betas, rest_joints=rest, parents=np.array(PARENTS))
    own = truth(tmp_path / "own.npz", 0, 8, [0.0, 0.0, 0.0], 90.0, 30.0, None)
    by_model = truth(path, 0, 8, [0.0, 0.0, 0.0], 90.0, 30.0, str(mannequin_file()))
    assert own.joints == pytest.approx(by_model.joints, abs=1e-4)
    assert own.transl == pytest.approx(by_model.transl, abs=1e-4)


def test_motion_without_rest_joints_asks_for_a_body_model(motion):
    with pytest.raises(DataError, match="body_model"):
        truth(motion[0], 0, 8, [0.0, 0.0, 0.0], 0.0, 30.0, None)


def test_frame_rates_must_agree(motion):
    with pytest.raises(DataError, match="30 frames per second, the video 25"):
        truth(motion[0], 0, 8, [0.0, 0.0, 0.0], 0.0, 25.0, str(mannequin_file()))
