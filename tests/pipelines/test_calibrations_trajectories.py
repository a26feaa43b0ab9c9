"""Tests of camera paths as rows of numbers, by projection of a point as the formats are described."""

from pathlib import Path

import numpy as np
import pytest

from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.sources.calibration import Camera
from opendimo.pipelines.sources.calibrations import read_calibration

HALF = np.sqrt(0.5)


def seen(camera: Camera, frame: int, point: tuple[float, float, float]) -> np.ndarray:
    """Return where a point is seen, in image widths from the middle."""
    pose = camera.world_to_camera[frame]
    image = camera.K[frame] @ (pose[:, :3] @ point + pose[:, 3])
    return image[:2] / image[2]


def test_humanvid_is_camera_to_world_with_scaled_positions(tmp_path: Path) -> None:
    """The second camera stands at (2, 0, 0) and looks along the world's +x: a quarter turn about y (down)."""
    path = tmp_path / "path.txt"
    path.write_text(f"0 0 0 0 0 0 0 1 1.5 2.5 4\n1 0.5 0 0 0 {HALF} 0 {HALF} 1.5 2.5 4\n")
    calibration = read_calibration(path)
    camera = calibration.camera("camera")
    assert calibration.sole == "camera" and camera.numbers == (0, 1) and not camera.metric
    assert seen(camera, 0, (1, 0, 3)) == pytest.approx([0.5, 0])
    assert seen(camera, 1, (5, 0.4, -1)) == pytest.approx([0.5, 0.2])  # 3 ahead, 1 to the right


def test_real_estate_is_world_to_camera(tmp_path: Path) -> None:
    path = tmp_path / "path.txt"
    pose = "1 0 0 {} 0 1 0 0 0 0 1 0"
    rows = [f"{time} 0.6 1.1 0.5 0.5 0 0 {pose.format(x)}" for time, x in ((33000, 0), (66000, -2))]
    path.write_text("\n".join(["https://example.org/watch?v=x", *rows]))
    camera = read_calibration(path).camera("camera")
    assert seen(camera, 1, (3, 1, 2)) == pytest.approx([0.3, 0.3])


@pytest.mark.parametrize(
    "rows", ["0 0 0 0 0 0 0 0 1 1\n1 0 0 0 0 0 0 0 1 1", "1 0 0 0 0 0 0 1 1 1\n1 0 0 0 0 0 0 1 1 1"]
)
def test_broken_paths_are_refused(tmp_path: Path, rows: str) -> None:
    path = tmp_path / "path.txt"
    path.write_text(rows)
    with pytest.raises(DataError, match="column"):
        read_calibration(path).camera("camera")


def test_the_paths_of_the_test_data_are_read(data: Path) -> None:
    camera = read_calibration(data / "camera_trajectories/humanvid_8486814.txt").camera("camera")
    forward = -camera.world_to_camera[-1, :, :3].T @ camera.world_to_camera[-1, :, 3]
    assert len(camera.K) == 192
    assert forward[2] == pytest.approx(2.101 * 4.073, rel=0.01)  # of summary.csv
