"""Tests of the renderer: drawn positions match the stored cameras."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opendimo.model.body.mannequin_parts import RoundCone
from opendimo.model.body.skeleton import JOINTS
from opendimo.model.body.surface import blended_distance, surface_nets
from opendimo.pipelines.cameras.geometry import camera_motion
from opendimo.pipelines.studio import cameras
from opendimo.pipelines.studio.film import Person, film, normals
from opendimo.pipelines.studio.motions import ACTIONS, Motion, act, mannequin, sole_heights
from opendimo.pipelines.studio.raster import draw
from opendimo.pipelines.studio.scene import OPEN_RADIUS, Scene
from opendimo.storage_schemas.conventions import camera_centres, project, transform

SIZE = (320, 180)


def independent_camera(row, size):
    """Compute K and [R | t] of an Unreal camera row (x, y, z, yaw, pitch, roll, focal, 36, 20.25) independently.

    From the format notes: X_cam = Rz(-roll) Rx(-pitch) Ry(-yaw) (P(X) - P(C)), P(x, y, z) = (y, -z, x) / 100.
    """
    x, y, z, yaw, pitch, roll, focal = row
    yaw, pitch, roll = np.radians([-yaw, -pitch, -roll])
    about_y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    about_z = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    R = about_z @ about_x @ about_y
    f = focal / 36 * size[0]
    K = np.array([[f, 0, size[0] / 2], [0, f, size[1] / 2], [0, 0, 1]])
    return K, np.concatenate([R, -R @ np.array([[y], [-z], [x]]) / 100], axis=1)


def ball(centre, radius):
    cone = RoundCone("head", tuple(centre), tuple(centre), radius, radius)
    return surface_nets(
        lambda points: blended_distance([cone], points, 0.001),
        centre - 1.43 * radius,
        centre + 1.43 * radius,
        radius / 6,
    )


@pytest.mark.parametrize("roll", [0.0, 25.0])
@pytest.mark.parametrize("joint", ["head", "left_wrist", "right_ankle"])
def test_a_marker_at_a_joint_is_drawn_where_the_joint_projects(joint, roll):
    person = Person("a", act("side-steps", 3, np.random.default_rng(3)), (20.0, -35.0, 10.0), yaw=70)
    camera = cameras.static(3, azimuth=30, distance=3.3, height=1.6)
    angles = camera.angles + np.array([3.0, 4.0, roll])
    camera = cameras.Camera(camera.position, angles, camera.focal, camera.terms)
    K, pose = independent_camera((*camera.position[1], *angles[1], camera.focal[1]), SIZE)
    place = person.joints()[1, JOINTS.index(joint)]
    expected = K @ (pose[:, :3] @ place + pose[:, 3])
    expected = expected[:2] / expected[2]

    vertices, faces = ball(place, 0.03)
    own_pose, own_K = camera.world_to_camera[1:2], camera.K(SIZE)[1:2]
    points = transform(vertices[None], own_pose)
    layer = draw(project(points, own_K)[0], points[0, :, 2], faces, np.full(vertices.shape, 255.0), SIZE)
    rows, columns = np.indices(layer.coverage.shape[:2]) + np.array([layer.top, layer.left])[:, None, None]
    weight = layer.coverage[..., 0]
    centroid = np.array([((columns + 0.5) * weight).sum(), ((rows + 0.5) * weight).sum()]) / weight.sum()
    assert np.linalg.norm(centroid - expected) < 0.1
    np.testing.assert_allclose(project(transform(place[None, None], own_pose), own_K)[0, 0], expected, atol=1e-6)


def test_the_filmed_person_covers_its_joints():
    person = Person("a", act("jumping-jacks", 2, np.random.default_rng(0)))
    camera = cameras.static(2, azimuth=-20, distance=4.2)
    (with_person,) = next(film(Scene(1), [person], [camera], SIZE))
    (empty,) = next(film(Scene(1), [], [camera], SIZE))
    changed = np.abs(with_person.astype(int) - empty).sum(-1) > 3
    pixels = np.floor(project(transform(person.joints(), camera.world_to_camera), camera.K(SIZE))[0, :22]).astype(int)
    assert all(changed[y, x] for x, y in pixels)
    rows = np.nonzero(changed[:, :].any(1))[0]
    assert 0.5 < len(rows) / SIZE[1] < 0.95


def test_the_same_take_gives_the_same_pictures():
    camera = cameras.dolly(cameras.static(3, 10), 0.5)
    first, second = (
        list(film(Scene(2), [Person("a", act("wave", 3, np.random.default_rng(5)))], [camera], SIZE)) for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)
    assert (first[0][0] != first[1][0]).any()


def test_nearer_surfaces_hide_farther_ones_and_back_faces_are_not_drawn():
    square = np.array([[4.0, 4], [4, 16], [16, 16], [16, 4]])  # counter-clockwise with y up: front-facing
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    points, depths = np.concatenate([square, square + 6]), np.repeat([3.0, 2.0], 4)
    colours = np.repeat([[200.0, 0, 0], [0, 200.0, 0]], 4, axis=0)
    layer = draw(points, depths, np.concatenate([faces, faces + 4]), colours, (40, 40))
    picture = np.zeros((40, 40, 3), np.float32)
    layer.over(picture)
    assert picture[6, 6].tolist() == [200, 0, 0] and picture[13, 13].tolist() == [0, 200, 0]
    assert picture[30, 30].tolist() == [0, 0, 0]
    np.testing.assert_allclose(layer.coverage.sum(), 12 * 12 * 2 - 6 * 6, rtol=0.02)  # no holes along the diagonals
    assert draw(square, depths[:4], faces[:, ::-1], colours[:4], (40, 40)) is None
    assert draw(square + 100, depths[:4], faces, colours[:4], (40, 40)) is None


@given(st.floats(-60, 60), st.floats(-25, 25), st.floats(-40, 40))
@settings(max_examples=25, deadline=None)
def test_depth_of_the_ground_agrees_with_the_camera(yaw, pitch, roll):
    camera = cameras.static(1, 0)
    camera = cameras.Camera(camera.position, camera.angles + np.array([yaw, pitch, roll]), camera.focal, ())
    K, pose = camera.K((64, 36)), camera.world_to_camera
    view = Scene(0).background(K[0], pose[0], (64, 36))
    y, x = np.nonzero(view.is_ground[..., 0])
    ground = np.stack([view.ground[y, x, 0], np.zeros(len(x)), view.ground[y, x, 1]], -1).astype(np.float64)
    near = np.linalg.norm(ground, axis=-1) < 10
    np.testing.assert_allclose(
        project(transform(ground[None], pose), K)[0][near], np.stack([x, y], -1)[near] + 0.5, atol=0.02
    )


def test_houses_stand_where_nobody_films():
    corners = np.concatenate([panel[1] for box in Scene(7)._boxes for panel in box.panels])
    assert np.linalg.norm(corners[:, [0, 2]], axis=1).min() > OPEN_RADIUS * 0.95


MOVES = {
    "static": lambda c: c,
    "dolly_in": lambda c: cameras.dolly(c, 0.9),
    "dolly_out": lambda c: cameras.dolly(c, -0.9),
    "truck_right": lambda c: cameras.truck(c, 0.9),
    "truck_left": lambda c: cameras.truck(c, -0.9),
    "pedestal_up": lambda c: cameras.pedestal(c, 0.7),
    "pan_left": lambda c: cameras.pan(c, -12),
    "pan_right": lambda c: cameras.pan(c, 12),
    "tilt_up": lambda c: cameras.tilt(c, 12),
    "zoom_in": lambda c: cameras.zoom(c, 1.4),
    "arc_left": lambda c: cameras.arc(c, -30),
    "arc_right": lambda c: cameras.arc(c, 30),
    "shake": lambda c: cameras.shake(c, 0.4, seed=1),
}


@pytest.mark.parametrize("term", MOVES)
def test_camera_labels_say_what_the_geometry_says(term):
    camera = MOVES[term](cameras.static(60, azimuth=35))
    assert camera.terms == (term,)
    subject = transform(np.tile([[[0.0, -0.95, 0.0]]], (60, 1, 1)), camera.world_to_camera)[:, 0]
    motion = camera_motion(camera.world_to_camera, camera.K(SIZE), 30, subject)
    assert {each.term for each in motion.terms} == {term}


def test_arcs_keep_their_distance_and_the_subject_in_the_middle():
    camera = cameras.arc(cameras.static(30, azimuth=-50, aim=1.0), 40)
    middle = project(transform(np.tile([[[0.0, -1.0, 0.0]]], (30, 1, 1)), camera.world_to_camera), camera.K(SIZE))
    np.testing.assert_allclose(middle, np.tile([[160.0, 90.0]], (30, 1, 1)), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(camera_centres(camera.world_to_camera)[:, [0, 2]], axis=1), 3.6)


@pytest.mark.parametrize("name", ACTIONS)
def test_feet_carry_the_body(name):
    motion = act(name, 60, np.random.default_rng(1))
    heights = sole_heights(motion)
    assert heights.min() == pytest.approx(0, abs=1e-3)
    assert heights.min(1).max() < (0.08 if name == "jumping-jacks" else 1e-5)
    steps = np.abs(np.diff(motion.rotations[:, 1:], axis=0)).max()
    assert steps < 0.45  # radians per frame: fast, but no jump
    pelvis = mannequin().joints(*motion.tensors()).numpy()[:, 0]
    assert np.linalg.norm(np.diff(pelvis, axis=0), axis=-1).max() * 30 < 3  # m/s
    assert np.ptp(motion.rotations[:, 1:22], axis=0).max() > 0.3  # it does move


def test_walking_in_a_circle_covers_ground_without_sliding():
    motion = act("walk-circle", 60, np.random.default_rng(0))
    joints = mannequin().joints(*motion.tensors()).double().numpy()
    way = np.linalg.norm(np.diff(joints[:, 0, [0, 2]], axis=0), axis=1).sum()
    assert way > 1.0
    feet = joints[:, [JOINTS.index("left_foot"), JOINTS.index("right_foot")]]
    speed = np.linalg.norm(np.diff(feet[..., [0, 2]], axis=0), axis=-1).min(1) * 30
    assert np.median(speed) < 0.2  # m/s of the slower foot, which stands


def test_normals_of_a_ball_point_away_from_its_middle():
    vertices, faces = ball(np.array([1.0, 2.0, 3.0]), 0.5)
    outwards = (vertices - [1, 2, 3]) / 0.5
    assert ((normals(vertices, faces) * outwards).sum(-1) > 0.95).all()


def test_a_person_stands_where_unreal_says():
    still = Motion("still", np.zeros((1, 52, 3)), np.zeros((1, 3)), np.zeros(10))
    rest = mannequin().joints(*still.tensors()).double().numpy()[0]
    placed = Person("a", still, (100.0, 50.0, 30.0), yaw=0).joints()[0]
    # Unreal: facing +Y is our +x, +X is our +z, up is -y; the body's left is then Unreal's +X.
    nose, left = rest @ [0, 0, 1], rest @ [1, 0, 0]
    np.testing.assert_allclose(placed, np.stack([nose + 0.5, -rest[:, 1] - 0.3, left + 1.0], -1), atol=1e-6)
