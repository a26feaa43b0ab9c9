"""Unreal's axes by projection: pixel positions of points, derived by hand from the format notes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opendimo.pipelines.sources.renders.cameras import turn_clockwise, unit_intrinsics
from opendimo.pipelines.sources.renders.unreal_axes import point, world_from_body, world_to_camera
from opendimo.storage_schemas.conventions import camera_centres, project, scale_intrinsics, transform

SIZE = (1280, 720)
AHEAD, RIGHT, ABOVE = (500.0, 0.0, 0.0), (500.0, 100.0, 0.0), (500.0, 0.0, 100.0)
angles = st.floats(-180, 180)
lengths = st.floats(-1000, 1000)


def pixel(unreal_point, rotation=(0, 0, 0), position=(0, 0, 0), turned=False):
    pose = turn_clockwise(world_to_camera([position], [rotation]), 90 if turned else 0)
    K = scale_intrinsics(unit_intrinsics([30.0], [[36.0, 20.25]], turned=turned), *(SIZE[::-1] if turned else SIZE))
    return project(transform(point([unreal_point]), pose), K)[0]


def test_camera_without_rotation_looks_along_x():
    assert pixel(AHEAD) == pytest.approx([640, 360])


def test_y_is_right_and_z_is_up():
    focal = 30 / 36 * 1280
    assert pixel(RIGHT) == pytest.approx([640 + focal / 5, 360])
    assert pixel(ABOVE) == pytest.approx([640, 360 - focal / 5])


def test_yaw_turns_right():
    # a camera that turns right sees what was ahead on its left; at 90 degrees it looks along +Y
    assert pixel(AHEAD, rotation=(10, 0, 0))[0] < 640
    assert pixel((0, 500, 0), rotation=(90, 0, 0)) == pytest.approx([640, 360])


def test_pitch_looks_up():
    assert pixel(AHEAD, rotation=(0, 10, 0))[1] > 360
    assert pixel((500, 0, 500), rotation=(0, 45, 0)) == pytest.approx([640, 360])


def test_roll_turns_the_content_counter_clockwise():
    # rolled by 90 degrees clockwise, what is above comes to the left
    assert pixel(ABOVE, rotation=(0, 0, 90)) == pytest.approx([640 - 30 / 36 * 1280 / 5, 360])


def test_rotations_are_yaw_then_pitch_then_roll():
    # turned to +Y and then pitched up by 45 degrees about the new side axis
    assert pixel((0, 500, 500), rotation=(90, 45, 30)) == pytest.approx([640, 360])


def test_position_is_in_centimetres():
    pose = world_to_camera([(100.0, 200.0, 300.0)], [(20.0, -5.0, 3.0)])
    assert camera_centres(pose)[0] == pytest.approx([2.0, -3.0, 1.0])


@given(angles, st.floats(-89, 89), angles, st.lists(lengths, min_size=3, max_size=3))
def test_camera_is_rigid_and_sees_its_own_direction_ahead(yaw, pitch, roll, position):
    pose = world_to_camera([position], [(yaw, pitch, roll)])
    y, p = np.deg2rad([yaw, pitch])
    direction = np.array([np.cos(p) * np.cos(y), np.cos(p) * np.sin(y), np.sin(p)])  # Unreal, +pitch up
    seen = transform(point([np.array(position) + 500 * direction]), pose)[0]
    assert np.linalg.det(pose[0, :, :3]) == pytest.approx(1)
    assert seen == pytest.approx([0, 0, 5], abs=1e-6)


@given(lengths, lengths, angles, angles, angles)
def test_portrait_camera_sees_the_stored_picture_turned_clockwise(right, up, yaw, pitch, roll):
    looked_at = world_to_camera([(0, 0, 0)], [(yaw, pitch, roll)])[0, :, :3]
    ahead = looked_at.T @ [right / 200, up / 200, 6.0]  # cv-world metres
    unreal = np.array([ahead[2], ahead[0], -ahead[1]]) * 100
    u, v = pixel(unreal, (yaw, pitch, roll))
    upright = pixel(unreal, (yaw, pitch, roll), turned=True)
    assert upright == pytest.approx([720 - v, u], abs=1e-6)  # np.rot90(image, -1): x = H - v, y = u


def test_body_without_yaw_faces_unreal_y():
    turn = world_from_body(0.0)
    forward, up = turn @ [0, 0, 1], turn @ [0, 1, 0]  # SMPL-X faces +Z, its up is +Y
    assert forward == pytest.approx(point([0, 100, 0]))
    assert up == pytest.approx(point([0, 0, 100]))
    assert np.linalg.det(turn) == pytest.approx(1)


def test_body_with_yaw_turns_right():
    # yaw 90 turns +Y towards -X, as Unreal's yaw turns +X towards +Y
    assert world_from_body(90.0) @ [0, 0, 1] == pytest.approx(point([-100, 0, 0]))
