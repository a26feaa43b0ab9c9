"""The arithmetic of the export script for Unreal's editor, and reading its manifests back."""

import ast
import sys
from pathlib import Path

import numpy as np
import pytest

from opendimo.model.body.skeleton import BODY_JOINTS, JOINTS
from opendimo.pipelines.sources.renders import unreal_export as export
from tests.pipelines.render_jobs import ingest, write_pictures

MANNEQUIN = [
    "root", "pelvis", *(f"spine_0{i}" for i in range(1, 6)), "neck_01", "neck_02", "head",
    *(f"{bone}_{side}" for side in "lr" for bone in (
        "clavicle", "upperarm", "lowerarm", "hand", "thigh", "calf", "foot", "ball", "lowerarm_twist_01",
    )),
]  # fmt: skip
FINGERS = [f"{finger}_0{i}_{side}" for side in "lr" for finger in export.FINGERS for i in (1, 2, 3)]


def test_it_needs_nothing_but_the_standard_library():
    tree = ast.parse(Path(export.__file__).read_text())
    names = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    names |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert names - {"unreal"} <= set(sys.stdlib_module_names)


def test_bones_of_mannequins_become_joints():
    joints = export.joint_bones(MANNEQUIN)
    assert set(joints) == set(BODY_JOINTS)
    assert (joints["left_hip"], joints["right_wrist"], joints["spine2"]) == ("thigh_l", "hand_r", "spine_03")
    assert set(export.joint_bones(MANNEQUIN + FINGERS)) == set(JOINTS)
    assert export.joint_bones(MANNEQUIN + FINGERS)["right_thumb2"] == "thumb_02_r"


def test_older_mannequins_have_three_bones_in_the_spine():
    older = [bone for bone in MANNEQUIN if bone not in ("spine_04", "spine_05")]
    assert export.joint_bones(older)["spine3"] == "spine_03"


def test_joints_of_smplx_keep_their_names_and_other_skeletons_are_left_out():
    assert export.joint_bones(["root", *JOINTS]) == {joint: joint for joint in JOINTS}
    assert export.joint_bones(["pelvis", "tail_01"]) == {}


@pytest.mark.parametrize(
    ("resolution", "constrained", "visible"),
    [
        ((1920, 1080), True, [36, 20.25]),
        ((1000, 1000), True, [36, 36]),  # bars above and below
        ((2000, 500), True, [81, 20.25]),  # bars on both sides
        ((2000, 500), False, [36, 9]),
    ],
)
def test_sensor_that_fills_the_picture(resolution, constrained, visible):
    assert export.visible_sensor((36, 20.25), resolution, constrained) == pytest.approx(visible)


def test_names_of_pictures():
    names = {"sequence_name": "Shot_1", "camera_name": "Cam A"}
    pattern = export.picture_pattern("{sequence_name}/{camera_name}.{frame_number}", names, 4, "png")
    assert pattern == "Shot_1/Cam A.%04d.png"
    assert export.picture_pattern("a{frame_number_rel}", names, 5, "jpeg") == "a%05d.jpeg"


@pytest.mark.parametrize("name", ["{sequence_name}", "{frame_number}/{camera_name}", "{date}.{frame_number}"])
def test_names_that_cannot_be_told_are_refused(name):
    with pytest.raises(ValueError, match="file_name_format"):
        export.picture_pattern(name, {"sequence_name": "s", "camera_name": "c"}, 4, "png")


def test_frames_and_their_rate():
    assert export.frame_numbers(10, 16, 2) == [10, 12, 14]
    assert export.frame_rate(30000, 1001, 2) == "30000/2002"
    with pytest.raises(ValueError, match="no frames"):
        export.frame_numbers(5, 5, 1)


def sample(location=(0.0, 0.0, 150.0), yaw=0.0, focal=18.0, sensor=(36.0, 20.25)):
    turn = (yaw, 0.0, 0.0)
    return {"location": location, "yaw_pitch_roll": turn, "focal_length": focal, "sensor": sensor, "constrained": True}


def test_a_still_camera_is_written_once_and_a_changing_sensor_is_refused():
    entry = export.camera_entry([sample(focal=20.0), sample(focal=21.0)], (64, 36))
    assert entry["position"] == [[0, 0, 150]] and entry["focal_length"] == [20, 21] and entry["sensor"] == [36, 20.25]
    with pytest.raises(ValueError, match="sensor changes"):
        export.camera_entry([sample(), sample(sensor=(24.0, 13.5))], (64, 36))


def test_what_it_writes_is_ingested(tmp_path):
    """The pelvis of a mannequin 4 m ahead of a panning camera projects to the expected pixel."""
    still = {joint: (400.0, 10.0 * i - 100, 60.0 + 5 * i) for i, joint in enumerate(BODY_JOINTS)}
    numbers = export.frame_numbers(100, 103, 1)
    pattern = export.picture_pattern("{sequence_name}.{frame_number}", {"sequence_name": "walk"}, 4, "png")
    view = {
        "name": "cam",
        "images": pattern,
        "camera": export.camera_entry([sample(yaw=y) for y in (0.0, 5.0, 10.0)], (64, 36)),
    }
    take = {
        "name": export.safe_name("wälk one"),
        "frames": len(numbers),
        "bodies": [export.body_entry("Manny 1", [still] * 3)],
        "views": [view],
    }
    content = export.manifest(
        [take], export.frame_rate(30, 1, 1), {"project": "p", "licence": None, "attribution": None}
    )
    export.write(str(tmp_path / "out" / f"walk{export.SUFFIX}"), content)
    write_pictures(tmp_path / "out" / pattern, range(100, 103))
    outcome = ingest(tmp_path)
    assert not outcome.rejects
    (row,) = outcome.rows["sources"]
    pelvis = row["truth_joints"][0, 1, 0]
    seen = row["K"][0] @ (row["world_to_camera"][1, :, :3] @ pelvis + row["world_to_camera"][1, :, 3])
    angle = np.arctan2(-100, 400) - np.deg2rad(5)  # Y is right; the camera has turned right by 5 degrees
    forward = np.hypot(400, 100) * np.cos(angle)
    assert seen[:2] / seen[2] == pytest.approx([32 + 32 * np.tan(angle), 18 + 32 * 90 / forward], abs=1e-3)
