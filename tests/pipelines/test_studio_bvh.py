import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from opendimo.model.body.skeleton import JOINTS
from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.studio.bvh import read_bvh
from opendimo.pipelines.studio.deepmimic import read_deepmimic
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
    with pytest.raises(DataError, match=r"not a known rig \(CMU, .*\): its joints are Hips, Arm"):
        retarget(read_bvh(tmp_path / "a.bvh"), "a")


def test_a_file_of_iclone_adds_the_root_to_its_offset(tmp_path):
    (tmp_path / "a.bvh").write_text(TINY.replace("ROOT Hips", "ROOT CC_Base_Hip"))
    assert read_bvh(tmp_path / "a.bvh").positions.tolist() == [[2, 4, 6], [2, 4, 7]]


ICLONE = ("Thigh", "Calf", "Foot", "Upperarm", "Forearm", "Hand")
DEEPMIMIC = ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")
ICLONE_FILES = (
    "002_01_walk", "002_03_run", "002_04_jump_balance", "005_11_dance_sidestep_pirouette", "005_16_dance_jete_turn",
    "006_14_basketball_dribble_shoot", "007_12_brisk_walk",
)  # fmt: skip
CMU_LIMBS = [f"{{Side}}{joint}" for joint in ("UpLeg", "Leg", "Foot", "Arm", "ForeArm", "Hand")]
RIGS = (
    {f"cmu_{name}": [f"CC_Base_{{S}}_{joint}" for joint in ICLONE] for name in ICLONE_FILES}
    | {name: CMU_LIMBS for name in ("cmu_12_01_walk_cmurig", "wave_hello_zup")}
    | {"cmu_jumping_jacks_cmurig": [f"{{Side}}{joint.title()}" for joint in DEEPMIMIC]}
    | {
        f"humanoid3d_{action}": [f"{{side}}_{joint}" for joint in DEEPMIMIC]
        for action in ("run", "kick", "dance_a", "cartwheel", "crawl")
    }
)


@pytest.mark.parametrize("name", RIGS)
def test_limbs_point_where_those_of_the_actor_point(data, name):
    """Compare frame 0, which resampling keeps, and the last one of files at a multiple of 30 frames per second."""
    folder = data / "mocap"
    is_bvh = (folder / f"{name}.bvh").exists()
    bvh = read_bvh(folder / f"{name}.bvh") if is_bvh else read_deepmimic(folder / f"{name}.json")
    ours = mannequin().joints(*retarget(bvh, name).tensors()).double().numpy()
    theirs = places(bvh)
    if name == "wave_hello_zup":
        theirs = np.stack([theirs[..., 0], theirs[..., 2], -theirs[..., 1]], -1)
    step = 1 / 30 / bvh.frame_time
    frames = range(0, len(ours), 10) if step == pytest.approx(round(step), abs=1e-3) else [0]
    for side in ("left", "right"):
        words = {"side": side, "Side": side.title(), "S": side[0].upper()}
        chain = [bvh.names.index(joint.format(**words)) for joint in RIGS[name]]
        for i in (0, 1, 3, 4):
            a = direction(ours[frames], *(JOINTS.index(f"{side}_{DEEPMIMIC[k]}") for k in (i, i + 1)))
            b = direction(theirs[[round(k * step) for k in frames]], chain[i], chain[i + 1])
            assert np.degrees(np.arccos(np.clip((a * b).sum(-1), -1, 1))).max() < 2


@pytest.mark.parametrize("name", [f"cmu_{ICLONE_FILES[k]}" for k in (0, 3, 5)])
def test_no_joint_jumps(data, name):
    motion = retarget(read_bvh(data / f"mocap/{name}.bvh"), name)
    turns = Rotation.from_rotvec(motion.rotations[:, :22].reshape(-1, 3)).as_matrix().reshape(-1, 22, 3, 3)
    steps = Rotation.from_matrix((np.swapaxes(turns[:-1], -1, -2) @ turns[1:]).reshape(-1, 3, 3)).magnitude()
    assert np.degrees(steps).max() < 90  # a limb that is straight for a moment must not flip about its bone


def test_an_actor_of_iclone_stands_on_the_floor(data):
    bvh = read_bvh(data / "mocap/cmu_005_11_dance_sidestep_pirouette.bvh")
    _, at = bvh.posed()
    assert np.median(at[:, bvh.names.index("CC_Base_L_Foot"), 1]) > 0  # centimetres


def test_a_figure_of_deepmimic_runs_where_its_file_says(data):
    bvh = read_deepmimic(data / "mocap/humanoid3d_run.json")
    joints = mannequin().joints(*retarget(bvh, "run").tensors()).double().numpy()
    way, legs = bvh.positions[-1] - bvh.positions[0], 0.421546 + 0.40987
    ours = np.linalg.norm(joints[0, [1, 4]] - joints[0, [4, 7]], axis=-1).sum()
    moved = (joints[-1, 0] - joints[0, 0]) * legs / ours
    assert moved[0] == pytest.approx(way[0], rel=0.1) and way[0] > 2  # metres along +X, which it faces


@pytest.mark.parametrize("broken", ["", "{}", '{"Frames": [[1, 2]]}', '{"Frames": "x"}', "[]"])
def test_broken_motions_of_deepmimic_are_named(tmp_path, broken):
    (tmp_path / "a.json").write_text(broken)
    with pytest.raises(DataError, match=r"a\.json: not a readable motion of DeepMimic"):
        read_deepmimic(tmp_path / "a.json")


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
