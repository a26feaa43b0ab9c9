import numpy as np
import pytest
import smplx
import torch
from smplx.joint_names import JOINT_NAMES

from opendimo.model.body.load import load_body
from opendimo.model.body.mannequin import mannequin_file, vertex_colours
from opendimo.model.body.skeleton import BONES, FROM_SMPLX, JOINTS, PARENTS, SMPLX_PARENTS

# The kinematic tree of SMPL-X as its model files give it.
SMPLX_TREE = [
    -1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 15, 15, 15, 20, 25, 26, 20, 28, 29, 20,
    31, 32, 20, 34, 35, 20, 37, 38, 21, 40, 41, 21, 43, 44, 21, 46, 47, 21, 49, 50, 21, 52, 53,
]  # fmt: skip


@pytest.fixture(scope="module")
def body():
    return load_body()


def pose(frames=1, **rotations):
    """Return a pose with the given joint rotations: arguments of `Body.joints` without betas."""
    every = torch.zeros(frames, 52, 3)
    for name, turn in rotations.items():
        every[:, JOINTS.index(name)] = torch.tensor(turn)
    return every[:, 0], every[:, 1:22], every[:, 22:].unflatten(1, (2, 15)), torch.zeros(frames, 3)


def at(joints, name):
    return joints[..., JOINTS.index(name), :]


def test_joints_are_smplx_without_the_face():
    assert [JOINT_NAMES[i] for i in FROM_SMPLX] == list(JOINTS)
    assert [JOINT_NAMES[i] for i in range(55) if i not in FROM_SMPLX] == ["jaw", "left_eye_smplhf", "right_eye_smplhf"]


def test_tree_is_that_of_smplx():
    assert list(SMPLX_PARENTS) == SMPLX_TREE
    assert [-1 if p < 0 else FROM_SMPLX[p] for p in PARENTS] == [SMPLX_TREE[i] for i in FROM_SMPLX]
    assert len(BONES) == 51


def test_smplx_loads_and_poses_the_mannequin(body):
    model = smplx.SMPLX(str(mannequin_file()), use_pca=False, flat_hand_mean=True)
    turned = pose(left_elbow=[0.0, -1.0, 0.0], right_knee=[0.8, 0.0, 0.0], left_index2=[0.0, 0.0, -0.5])
    theirs = model(
        global_orient=turned[0], body_pose=turned[1].flatten(1), left_hand_pose=turned[2][:, 0].flatten(1),
        right_hand_pose=turned[2][:, 1].flatten(1), betas=torch.full((1, 10), 0.5),
    )  # fmt: skip
    betas = torch.full((10,), 0.5)
    torch.testing.assert_close(body.joints(*turned, betas), theirs.joints[:, list(FROM_SMPLX)], atol=1e-5, rtol=0)
    torch.testing.assert_close(body.vertices(*turned, betas), theirs.vertices, atol=1e-5, rtol=0)


def test_rest_joints_are_regressed_from_vertices(body):
    betas = torch.linspace(-2, 2, 10)
    vertices = body.vertices(*pose(), betas)[0]
    regressor = np.load(mannequin_file())["J_regressor"][list(FROM_SMPLX)]
    torch.testing.assert_close(torch.from_numpy(regressor) @ vertices, body.rest_joints(betas), atol=1e-5, rtol=0)
    torch.testing.assert_close(body.joints(*pose(), betas)[0], body.rest_joints(betas), atol=1e-6, rtol=0)


def test_rest_pose_is_a_t_pose_that_faces_z_with_its_left_at_x(body):
    joints, vertices = body.rest_joints(torch.zeros(10)), body.vertices(*pose(), torch.zeros(10))[0]
    assert at(joints, "left_wrist")[0] > 0.6 and at(joints, "right_wrist")[0] < -0.6
    assert abs(at(joints, "left_wrist")[1] - at(joints, "left_shoulder")[1]) < 0.02
    assert at(joints, "left_foot")[2] > at(joints, "left_ankle")[2] + 0.1  # toes to the front
    assert at(joints, "left_thumb3")[2] > at(joints, "left_pinky3")[2] + 0.1  # palms down
    face = vertices[(vertices[:, 1] > at(joints, "head")[1]) & (vertices[:, 0].abs() < 0.02)]
    nose = face[face[:, 2].argmax()]
    assert nose[2] > 0.1 and abs(nose[0]) < 0.01
    assert at(joints, "pelvis").norm() > 0.2  # as in SMPL-X the axes do not start in the pelvis


def test_mannequin_is_a_watertight_adult(body):
    vertices, faces = body.vertices(*pose(), torch.zeros(10))[0], body.faces
    height = vertices[:, 1].max() - vertices[:, 1].min()
    assert 1.65 < height < 1.78
    edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    assert {tuple(e) for e in edges.tolist()} == {(b, a) for a, b in edges.tolist()}  # each edge once in each direction
    a, b, c = vertices[faces].unbind(1)
    assert 0.05 < (a * torch.cross(b, c, dim=-1)).sum() / 6 < 0.11  # cubic metres: positive, so normals look outwards
    assert vertex_colours().shape == vertices.shape and len({*map(tuple, vertex_colours().tolist())}) > 8


def test_an_elbow_moves_its_descendants_only(body):
    rest, turned = (body.joints(*pose(**turns), torch.zeros(10))[0] for turns in ({}, {"left_elbow": [0.0, -1.5, 0.0]}))
    moved = {JOINTS[i] for i in torch.nonzero((rest - turned).norm(dim=-1) > 1e-5).flatten().tolist()}
    assert moved == {"left_wrist"} | {name for name in JOINTS[22:37]}
    assert at(turned, "left_wrist")[2] > at(rest, "left_wrist")[2] + 0.2  # the left forearm swings to the front


def test_skin_follows_its_bone_without_jumps(body):
    vertices = body.vertices(*pose(left_elbow=[0.0, -1.0, 0.0]), torch.zeros(10))[0]
    rest = body.vertices(*pose(), torch.zeros(10))[0]
    weights = body.layer.lbs_weights
    assert torch.allclose(weights.sum(-1), torch.ones(len(weights)), atol=1e-4)
    first, second = torch.cat([body.faces[:, [0, 1]], body.faces[:, [1, 2]]]).T
    stretch = (vertices[first] - vertices[second]).norm(dim=-1) - (rest[first] - rest[second]).norm(dim=-1)
    assert stretch.max() < 0.02


@pytest.mark.parametrize("index", range(10))
def test_every_shape_coefficient_changes_the_body(body, index):
    change = body.vertices(*pose(), 2 * torch.eye(10)[index])[0] - body.vertices(*pose(), torch.zeros(10))[0]
    assert 0.01 < change.norm(dim=-1).max() < 0.2


def test_first_coefficient_is_stature(body):
    bodies = [body.vertices(*pose(), torch.tensor([beta]))[0] for beta in (-1.0, 1.0)]
    heights = [float(v[:, 1].max() - v[:, 1].min()) for v in bodies]
    assert heights[1] - heights[0] > 0.08


def test_gradients_reach_every_parameter_at_the_rest_pose(body):
    parameters = [p.clone().requires_grad_() for p in (*pose(frames=2), torch.zeros(10))]
    body.joints(*parameters).square().sum().backward()
    assert all(torch.isfinite(p.grad).all() and p.grad.abs().max() > 0 for p in parameters)


def test_more_coefficients_than_the_model_has_must_be_zero(body):
    assert body.rest_joints(torch.zeros(16)).shape == (52, 3)
    with pytest.raises(ValueError, match="16 shape coefficients"):
        body.rest_joints(torch.ones(16))


def test_pickled_objects_are_refused(tmp_path):
    arrays = dict(np.load(mannequin_file()))
    np.savez(tmp_path / "evil.npz", **(arrays | {"weights": np.array([{"a": 1}], dtype=object)}))
    with pytest.raises(ValueError, match="pickled objects are rejected"):
        load_body(tmp_path / "evil.npz")


def test_pickled_extras_of_official_files_are_never_read(tmp_path):
    arrays = dict(np.load(mannequin_file()))
    np.savez(tmp_path / "official.npz", **arrays, joint2num=np.array({"pelvis": 0}, dtype=object))
    assert load_body(tmp_path / "official.npz").num_betas == 10


@pytest.mark.parametrize("content", [b"", b"no zip file", b"\x80\x04K\x01."])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "model.npz").write_bytes(content)
    with pytest.raises(ValueError, match="not a plain SMPL-X"):
        load_body(tmp_path / "model.npz")


def test_a_missing_file_and_a_missing_key_are_named(tmp_path):
    with pytest.raises(ValueError, match="no body model at"):
        load_body(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", v_template=np.zeros((3, 3)))
    with pytest.raises(ValueError, match="not a SMPL-X body model: f is"):
        load_body(tmp_path / "other.npz")


def test_making_it_again_gives_the_same_bytes(body, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    mannequin_file.cache_clear()
    try:
        assert load_body().sha256 == body.sha256
        assert mannequin_file().parent == tmp_path / "opendimo"
        assert [p.name for p in mannequin_file().parent.iterdir()] == [mannequin_file().name]
    finally:
        mannequin_file.cache_clear()
