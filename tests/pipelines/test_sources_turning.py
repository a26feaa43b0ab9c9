"""Rigs whose calibration holds for pictures as stored, while people are seen in turned ones."""

import json
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.sources import SourcesConfig, SourcesStage, discover
from opendimo.pipelines.sources.calibrations import read_calibration
from opendimo.pipelines.sources.turning import turned
from opendimo.storage_schemas.conventions import HALF_PIXEL
from opendimo.storage_schemas.media.video import decode, encode

SIZE = (160, 96)
K = np.array([[130.0, 0, 76], [0, 126, 50], [0, 0, 1]])
LENS = [-0.2, 0.05, 0.02, -0.03, 0.01, 0.02, 0.01, 0.03, 0.01, -0.02, 0.015, 0.02]
R, T = np.array([0.2, -0.3, 0.1]), np.array([0.1, -0.2, 2.0])
POINT = np.array([0.35, 0.5, 0.4])


def write(folder: Path, **changes: object) -> Path:
    """Write a video of `SIZE` with a white dot where the camera sees `POINT`, and its calibration."""
    seen = cv2.projectPoints(POINT[None], R, T, K, np.array(LENS))[0][0, 0]
    image = np.full((SIZE[1], SIZE[0], 3), 40, np.uint8)
    cv2.circle(image, tuple(int(n) for n in np.round(seen * 16)), 48, (255, 255, 255), -1, cv2.LINE_AA, 4)
    path = folder / "a.mp4"
    path.write_bytes(encode(iter(np.repeat(image[None], 4, 0)), Fraction(30)))
    entry = {"size": SIZE, "K": K.tolist(), "dist": LENS, "R": R.tolist(), "t": T.tolist(), **changes}
    (folder / "calib.json").write_text(json.dumps({"cameras": {"a": entry}}))
    return path


def container_turns(path: Path) -> None:
    """Set the display matrix of an MP4 to a clockwise quarter turn, by ISO/IEC 14496-12, 8.3.2."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 40
    matrix = [0, 1 << 16, 0, -1 << 16, 0, 0, SIZE[1] << 16, 0, 1 << 30]
    data[start : start + 36] = b"".join(n.to_bytes(4, "big", signed=True) for n in matrix)
    path.write_bytes(data)


def ingest(folder: Path) -> tuple[list[dict], list[str]]:
    works = discover("multiview", folder, SourcesConfig())
    outcome = SourcesStage("lake", SourcesConfig()).run(works)
    outcome.check(works)
    return outcome.rows["sources"], [reject.message for reject in outcome.rejects]


def check(path: Path, row: dict) -> None:
    """Compare the dot in the upright picture with the projection by the stored camera, to half a pixel."""
    (image,) = decode(path, start=0, stop=1, rotation=row["rotation"])
    assert image.shape[:2] == (row["height"], row["width"])
    weight = np.clip(image.mean(2) - 60, 0, None)
    y, x = ((np.indices(weight.shape) + 0.5) * weight).sum((1, 2)) / weight.sum()
    pose, lens = row["world_to_camera"][0].astype(float), np.array(row["distortion"], float)
    seen = cv2.projectPoints(POINT[None], pose[:, :3], pose[:, 3], row["K"][0].astype(float), lens)[0][0, 0]
    assert seen == pytest.approx([x, y], abs=0.5)


@pytest.mark.parametrize("count", [0, 1, 2, 3, -1, -2])
def test_caliscope_turns_pictures_for_display_only(tmp_path: Path, count: int) -> None:
    path = write(tmp_path, rotation_count=count)
    (row,), rejects = ingest(tmp_path)
    assert not rejects and row["rotation"] == 90 * count % 360
    assert (row["width"], row["height"]) == (SIZE if count % 2 == 0 else SIZE[::-1])
    check(path, row)


@pytest.mark.parametrize("count", [None, 0, 1, 3])
def test_a_calibration_with_the_shape_of_stored_pictures_holds_for_them(tmp_path: Path, count: int | None) -> None:
    """A phone's video: the container turns the pictures, the tool that calibrated them did not look at that."""
    path = write(tmp_path, **({} if count is None else {"rotation_count": count}))
    container_turns(path)
    (row,), rejects = ingest(tmp_path)
    assert not rejects and row["rotation"] == 90 * (count or 1)
    check(path, row)


def test_a_calibration_of_upright_pictures_is_kept(tmp_path: Path) -> None:
    upright = [[126.0, 0, 45], [0, 130, 76], [0, 0, 1]]
    path = write(tmp_path, size=SIZE[::-1], K=upright, dist=[])
    container_turns(path)
    (row,), rejects = ingest(tmp_path)
    assert not rejects and row["K"][0] == pytest.approx(np.array(upright) + HALF_PIXEL)


@pytest.mark.parametrize("count", [0.5, "left"])
def test_what_is_no_number_of_turns_rejects_the_view(tmp_path: Path, count: object) -> None:
    write(tmp_path, rotation_count=count)
    _, (message,) = ingest(tmp_path)
    assert "calib.json, camera a" in message


def test_half_turns_keep_skew_and_other_turns_refuse_it() -> None:
    skewed = (K + np.array([[0, 2.0, 0], [0, 0, 0], [0, 0, 0]]))[None]
    pose = np.eye(3, 4)[None]
    half, _, lens = turned(skewed, pose, [0.1, 0.2, 0.3, 0.4], SIZE, 180)
    assert half[0] == pytest.approx(np.array([[130, 2, SIZE[0] - 76], [0, 126, SIZE[1] - 50], [0, 0, 1]]))
    assert lens == [0.1, 0.2, -0.3, -0.4]
    with pytest.raises(DataError, match="skewed"):
        turned(skewed, pose, [], SIZE, 90)
    with pytest.raises(DataError, match="tilted"):
        turned(K[None], pose, [*LENS, 0.1, 0.0], SIZE, 180)


def test_a_rig_of_caliscope_with_turned_cameras_is_complete(tmp_path: Path, data: Path) -> None:
    """The board rig with two cameras that caliscope shows turned: their pixels and calibrations are the same."""
    source = data / "multiview" / "desk_board_4cam"
    text = (source / "camera_array.toml").read_text()
    parts = text.split("rotation_count = 0")
    counts = ["0", "1", "0", "-1"]
    turned_text = parts[0] + "".join(f"rotation_count = {n}{part}" for n, part in zip(counts, parts[1:], strict=True))
    (tmp_path / "camera_array.toml").write_text(turned_text)
    for k in range(4):
        (tmp_path / f"cam_{k}.mp4").symlink_to(source / f"cam_{k}.mp4")
    rows, rejects = ingest(tmp_path)
    assert not rejects and [row["rotation"] for row in rows] == [0, 90, 0, 270]
    plain = read_calibration(source / "camera_array.toml")
    point = np.array([[0.1, 0.2, 0.6]])
    for row, (width, height) in zip(rows, [(1280, 720)] * 4, strict=True):
        camera = plain.camera(row["view"])
        pose, lens = camera.world_to_camera[0], np.array(camera.distortion)
        u, v = cv2.projectPoints(point, pose[:, :3], pose[:, 3], camera.K[0], lens)[0][0, 0]
        expected = {0: (u, v), 90: (height - v, u), 270: (v, width - u)}[row["rotation"]]
        pose, lens = row["world_to_camera"][0].astype(float), np.array(row["distortion"], float)
        seen = cv2.projectPoints(point, pose[:, :3], pose[:, 3], row["K"][0].astype(float), lens)[0][0, 0]
        assert seen == pytest.approx(expected, rel=1e-3)
