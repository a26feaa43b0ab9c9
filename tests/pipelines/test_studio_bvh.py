import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from opendimo.model.body.skeleton import JOINTS
from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.studio.bvh import read_bvh
from opendimo.pipelines.studio.motions import mannequin, sole_heights
from opendimo.pipelines.studio.retarget import retarget

TINY = """HIERARCHY
ROOT Hips
{ OFFSET 1 2 3
  CHANNELS 6 Xposition Yposition Zposition Zrotation Yrotation Xrotation
  JOINT Arm
  { OFFSET 0 5 0
    CHANNELS 3 Zrotation Xrotation Yrotation
    End Site
    { OFFSET 0 1 0 } } }
MOTION
Frames: 2
Frame Time: 0.5
1 2 3 90 0 0 10 20 30
1 2 4 0 0 0 0 0 0
"""


def direction(points, start, end):
    way = points[:, end] - points[:, start]
    return way / np.linalg.norm(way, axis=-1, keepdims=True)


def places(bvh):
    """Compute joint positions [T, J, 3] by forward kinematics with matrices."""
    turns, where = [], []
    for joint, parent in enumerate(bvh.parents):
        local = Rotation.from_rotvec(bvh.rotations[:, joint]).as_matrix()
        turns.append(local if parent < 0 else turns[parent] @ local)
        where.append(bvh.positions if parent < 0 else where[parent] + turns[parent] @ bvh.offsets[joint])
    return np.stack(where, axis=1)


def test_reading_channels_in_their_order(tmp_path):
    (tmp_path / "a.bvh").write_text(TINY)
    bvh = read_bvh(tmp_path / "a.bvh")
    assert (bvh.names, bvh.parents, bvh.frame_time) == (["Hips", "Arm"], [-1, 0], 0.5)
    assert bvh.offsets.tolist() == [[1, 2, 3], [0, 5, 0]] and bvh.positions.tolist() == [[1, 2, 3], [1, 2, 4]]
    z, x, y = (Rotation.from_euler(axis, angle, degrees=True) for axis, angle in (("z", 10), ("x", 20), ("y", 30)))
    np.testing.assert_allclose(bvh.rotations[0, 1], (z * x * y).as_rotvec())
    np.testing.assert_allclose(bvh.rotations[0, 0], [0, 0, np.pi / 2])


@pytest.mark.parametrize("broken", [
    "", "hello", TINY.replace("MOTION", ""), TINY.replace("Frames: 2", "Frames: 3"), TINY[:-20],
    TINY.replace("10 20 30", "10 x 30"), TINY.replace("10 20 30", "10 nan 30"),
])  # fmt: skip
def test_broken_files_are_named(tmp_path, broken):
    (tmp_path / "a.bvh").write_text(broken)
    with pytest.raises(DataError, match=r"a\.bvh: not a readable BVH"):
        read_bvh(tmp_path / "a.bvh")


def test_other_rigs_are_refused(tmp_path):
    (tmp_path / "a.bvh").write_text(TINY)
    with pytest.raises(DataError, match="not the CMU rig: its joints are Hips, Arm"):
        retarget(read_bvh(tmp_path / "a.bvh"), "a")


@pytest.mark.parametrize(("name", "joints"), [
    ("cmu_12_01_walk_cmurig", ("UpLeg", "Leg", "Foot", "Arm", "ForeArm", "Hand")),
    ("cmu_jumping_jacks_cmurig", ("Hip", "Knee", "Ankle", "Shoulder", "Elbow", "Wrist")),
])  # fmt: skip
def test_limbs_point_where_those_of_the_actor_point(data, name, joints):
    bvh = read_bvh(data / "mocap" / f"{name}.bvh")
    motion = retarget(bvh, name)
    step = round(1 / 30 / bvh.frame_time)
    theirs, ours = places(bvh)[::step], mannequin().joints(*motion.tensors()).double().numpy()
    frames = min(len(theirs), len(ours), 60)
    assert abs(len(theirs) - len(ours)) <= 1
    chain = ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")
    for side in ("left", "right"):
        for i in (0, 1, 3, 4):
            a = direction(ours, *(JOINTS.index(f"{side}_{chain[k]}") for k in (i, i + 1)))[:frames]
            b = direction(theirs, *(bvh.names.index(f"{side.title()}{joints[k]}") for k in (i, i + 1)))[:frames]
            assert np.degrees(np.arccos(np.clip((a * b).sum(-1), -1, 1))).max() < 2


def test_a_walk_goes_forward_on_the_floor(data):
    motion = retarget(read_bvh(data / "mocap/cmu_12_01_walk_cmurig.bvh"), "walk")
    joints = mannequin().joints(*motion.tensors()).double().numpy()
    assert joints[-1, 0, 2] - joints[0, 0, 2] > 2.5  # metres along +Z, the direction the body faces
    left, right = (joints[:, JOINTS.index(name)] for name in ("left_shoulder", "right_shoulder"))
    assert (left[:, 0] > right[:, 0]).all()
    heights = sole_heights(motion)
    assert heights.min() == pytest.approx(0, abs=1e-6) and heights.min(1).max() < 0.08


def test_z_up_files_stand_upright(data):
    motion = retarget(read_bvh(data / "mocap/wave_hello_zup.bvh"), "wave")
    joints = mannequin().joints(*motion.tensors()).double().numpy()
    assert (joints[:, JOINTS.index("head"), 1] - joints[:, JOINTS.index("left_ankle"), 1]).min() > 1.2
