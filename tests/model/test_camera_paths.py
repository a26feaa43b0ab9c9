"""Camera paths to generate videos from."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from opendimo.model.multiview.paths import Orbit, Rig, camera_paths
from opendimo.pipelines.cameras.geometry import camera_motion

PERSON = np.array([0.4, -0.2, 3.5])


def centre(camera: np.ndarray) -> np.ndarray:
    return -camera[:, :3].T @ camera[:, 3]


def test_an_orbit_keeps_its_distance_and_looks_at_the_person_as_the_driver_does() -> None:
    cameras = [camera[0].astype(float) for camera in Orbit(8).around(PERSON)]
    assert np.allclose(cameras[0], np.eye(3, 4), atol=1e-6)
    for camera in cameras:
        assert np.linalg.norm(centre(camera) - PERSON) == pytest.approx(np.linalg.norm(PERSON), abs=1e-5)
        assert np.allclose(camera[:, :3] @ PERSON + camera[:, 3], PERSON, atol=1e-5)
        assert centre(camera)[1] == pytest.approx(0, abs=1e-5)  # at the height of the driver's
    opposite = centre(cameras[4]) - PERSON
    assert np.allclose(opposite[[0, 2]], PERSON[[0, 2]], atol=1e-5)


def test_an_orbit_goes_to_the_left_as_the_camera_terms_say() -> None:
    path = np.concatenate(Orbit(64).around(PERSON))[:17]  # a quarter of the circle
    K = np.tile(np.array([[900.0, 0, 480], [0, 900, 270], [0, 0, 1]]), (17, 1, 1))
    motion = camera_motion(path, K, 8.0, np.tile(PERSON, (17, 1)))
    assert {term.term for term in motion.terms} == {"arc_left"}


def test_cameras_of_a_file_are_relative_to_the_drivers(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rotations = Rotation.from_rotvec(rng.normal(size=(2, 3))).as_matrix()
    front, side = (np.concatenate([r, rng.normal(size=(3, 1))], axis=1) for r in rotations)
    file = tmp_path / "rig.json"
    file.write_text(json.dumps({"driver": "side", "cameras": {"front": front.tolist(), "side": side.tolist()}}))
    rig = camera_paths(str(file))
    assert isinstance(rig, Rig) and rig.names == ("front", "side")
    point = rng.normal(size=3)
    in_side, in_front = (camera[:, :3] @ point + camera[:, 3] for camera in (side, front))
    moved = rig.around(PERSON)[0][0].astype(float)
    assert np.allclose(moved[:, :3] @ in_side + moved[:, 3], in_front, atol=1e-5)
    assert np.allclose(rig.around(PERSON)[1][0], np.eye(3, 4), atol=1e-6)


STILL = np.eye(4).tolist()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ([1], "write"),
        ({"cameras": {}}, "write"),
        ({"cameras": {"a": STILL}, "driver": "b"}, "the driver 'b' is not one of the cameras a"),
        ({"cameras": {"a": [[1, 2], [3, 4]]}}, "camera a: shape"),
        ({"cameras": {"a": "x"}}, "camera a: not a matrix"),
        ({"cameras": {"a": (2 * np.eye(4)).tolist()}}, "camera a: .*no rotation"),
        ({"cameras": {"a": np.diag([1.0, 1, -1, 1]).tolist()}}, "camera a: .*no rotation"),
        ({"cameras": {"a": [STILL] * 3, "b": [STILL] * 4}}, r"\[3, 4\] matrices"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(content: Any, message: str, tmp_path: Path) -> None:
    file = tmp_path / "rig.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ValueError, match=message):
        camera_paths(str(file))


@pytest.mark.parametrize("given", ["orbit:", "orbit:0", "orbit:1000", "orbit:-4", "nowhere.json"])
def test_what_is_no_path_is_named(given: str) -> None:
    with pytest.raises(ValueError, match=r"orbit"):
        camera_paths(given)
