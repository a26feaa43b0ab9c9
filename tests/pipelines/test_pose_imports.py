"""Tests that results of other programs are read to the right joints: files written as their descriptions say."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from opendimo.model.body.load import Body, load_body
from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.poses.fit_config import FitConfig
from opendimo.pipelines.poses.imports.formats import FORMATS, read, units
from opendimo.pipelines.poses.imports.label import motion_of
from opendimo.pipelines.poses.imports.result import Result
from opendimo.pipelines.poses.label import in_camera
from opendimo.pipelines.poses.view import View
from tests.pipelines.pose_files import FRAMES, SIZE, WRITERS, Known, camera_of, known

IN_THE_WORLD = ("easymocap", "amass", "easymocap_points")
OF_POINTS = {"easymocap_points": 12.0, "motionbert": 12.0}
"""Formats of points, to which a body is fitted: largest median distance in pixels."""


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body()


def view(focal: float, world: bool = False) -> View:
    K = np.broadcast_to(camera_of(focal), (FRAMES, 3, 3))
    return View(*SIZE, 30.0, K, np.tile(np.eye(3, 4), (FRAMES, 1, 1)) if world else None, np.zeros(0))


def results(folder: Path, form: str) -> list[Result]:
    (unit,) = units(folder, FORMATS[form])
    assert "take" in unit.names()
    return read(unit, FORMATS[form], SIZE)


def written(tmp_path: Path, form: str, body: Body) -> tuple[list[Result], Known]:
    writer, focal, _ = WRITERS[form]
    (tmp_path / "take").mkdir()
    motion = known(body, depth=60.0 if form == "4dhumans" else 4.0)
    writer(tmp_path / "take", motion, focal)
    return results(tmp_path, form), motion


def pixels(joints: np.ndarray, focal: float) -> np.ndarray:
    image = joints @ camera_of(focal).T
    return image[..., :2] / image[..., 2:]


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_reads_to_the_right_joints_in_pixels(form: str, tmp_path: Path, body: Body) -> None:
    people, true = written(tmp_path, form, body)
    _, focal, hands = WRITERS[form]
    seen = view(focal, form in IN_THE_WORLD)
    best = min(people, key=lambda person: abs(motion(person, seen, body).joints[:, 0] - true.pelvis).max())
    joints = in_camera(motion(best, seen, body), seen).joints
    off = np.linalg.norm(pixels(joints, focal) - pixels(true.joints, focal), axis=-1)
    if form in OF_POINTS:
        assert np.median(off[:, :22]) < OF_POINTS[form]
        return
    shown = 52 if hands else 22
    assert off[:, :shown].max() < 0.2  # SMPL-X's and SMPL's rest pelvis are known to a tenth of a millimetre
    assert np.abs(joints[:, :shown] - true.joints[:, :shown]).max() < 2e-3 * (15 if form == "4dhumans" else 1)


def motion(person: Result, seen: View, body: Body):
    step = 4 if person.fps == 120 else 1
    return motion_of(person, step * np.arange(FRAMES), seen, body, FitConfig())


def test_every_format_has_a_writer() -> None:
    assert set(WRITERS) == set(FORMATS)


def test_another_focal_length_keeps_place_and_size(tmp_path: Path, body: Body) -> None:
    """A body 60 m away in HMR 2.0's camera (12 500 pixels) is 3.7 m away in one of 768 pixels, as large as before."""
    people, true = written(tmp_path, "4dhumans", body)
    wide = in_camera(motion(people[0], view(768.0), body), view(768.0)).joints
    seen, told = pixels(wide, 768.0), pixels(true.joints, WRITERS["4dhumans"][1])
    assert np.abs(seen[:, 0] - told[:, 0]).max() < 0.5
    heights = [np.ptp(p[:, :22, 1], axis=1) for p in (seen, told)]
    assert np.abs(heights[0] / heights[1] - 1).max() < 0.12  # perspective is stronger near by
    assert 3.5 < wide[:, 0, 2].mean() < 3.9


def test_a_moving_camera_puts_the_body_into_the_world_and_back(tmp_path: Path, body: Body) -> None:
    people, true = written(tmp_path, "tram", body)
    angle = 0.2 * np.arange(FRAMES)
    world = np.tile(np.eye(3, 4), (FRAMES, 1, 1))
    world[:, 0, 0], world[:, 0, 2], world[:, 2, 0], world[:, 2, 2] = (
        np.cos(angle),
        np.sin(angle),
        -np.sin(angle),
        np.cos(angle),
    )
    world[:, :, 3] = [0.5, 0.1, -0.3]
    seen = replace(view(700.0), world_to_camera=world)
    back = in_camera(motion(people[0], seen, body), seen).joints
    assert np.abs(back[:, :22] - true.joints[:, :22]).max() < 2e-3


def test_results_of_another_shape_are_refused(tmp_path: Path) -> None:
    (tmp_path / "take").mkdir()
    np.save(tmp_path / "take" / "X3D.npy", np.zeros((4, 16, 3)))
    with pytest.raises(DataError, match=r"X3D.npy: an array of the shape \(4, 16, 3\)"):
        results(tmp_path, "motionbert")
    with pytest.raises(ValueError, match=r"no results of wham: no wham_output\.pkl"):
        units(tmp_path, FORMATS["wham"])


@pytest.mark.parametrize("form", ["wham", "gvhmr", "prompthmr"])
def test_numbers_that_are_not_finite_are_refused(form: str, tmp_path: Path, body: Body) -> None:
    (tmp_path / "take").mkdir()
    broken = known(body, 4.0)
    broken.orient[2] = np.nan
    WRITERS[form][0](tmp_path / "take", broken, 700.0)
    with pytest.raises(DataError, match="not finite"):
        results(tmp_path, form)
