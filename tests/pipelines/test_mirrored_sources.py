"""Videos whose display matrix mirrors them: clips show them mirrored, cameras of them are refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from opendimo.pipelines.clips.cut import ClipsConfig, clips_of
from opendimo.pipelines.generation.driving import read_video
from opendimo.pipelines.people.detector import Detector
from opendimo.pipelines.sources import SourcesConfig, SourcesStage, discover
from opendimo.storage_schemas.media import video
from tests.pipelines.clip_sources import source_row
from tests.storage_schemas.test_orientation import picture, shown, with_matrix

MIRRORED = (-1, 0, 0, 1)


def rows_of(kind: str, path: Path) -> tuple[list[dict], list]:
    config = SourcesConfig()
    outcome = SourcesStage("lake", config).run(discover(kind, path, config))
    return outcome.rows.get("sources", []), outcome.rejects


@pytest.mark.parametrize("matrix", [MIRRORED, (0, 1, 1, 0), (0, 1, -1, 0)])
def test_sources_and_driving_videos_know_their_orientation(tmp_path: Path, matrix: tuple[int, ...]) -> None:
    path = with_matrix(tmp_path / "a.mp4", matrix, picture())
    [row], _ = rows_of("internet", path)
    right = shown(picture(), matrix)
    assert (row["height"], row["width"]) == right.shape[:2]
    assert row["mirrored"] == (matrix[0] * matrix[3] < matrix[1] * matrix[2])
    images, _ = read_video(path, 2)
    assert np.abs(images[1].astype(int) - right).max() <= 3


def test_a_clip_of_a_mirrored_video_is_mirrored(data: Path, tmp_path: Path) -> None:
    path = data / "wild/containers/hflip_matrix.mov"
    row = source_row(path)
    assert (row["rotation"], row["mirrored"]) == (0, True)
    rows = clips_of(row, ClipsConfig(copy=True), Detector(ClipsConfig().people.detector))
    [clip], [stored] = rows["clips"], rows["clip_videos"]
    right = video.decode(path)[:, :, ::-1]
    got = video.decode(bytes(stored["video"]))
    assert got.shape == (*right.shape[:1], clip["height"], clip["width"], 3)
    assert np.abs(got.astype(int) - right).mean() < 4  # coding; not mirrored or upside down it is over 20
    before = clips_of(row | {"mirrored": None}, ClipsConfig(), Detector(ClipsConfig().people.detector))
    assert np.abs(video.decode(bytes(before["clip_videos"][0]["video"])).astype(int) - right).mean() > 20


def test_the_camera_of_a_mirrored_view_is_refused_by_name(tmp_path: Path) -> None:
    with_matrix(tmp_path / "a.mp4", MIRRORED, picture())
    with_matrix(tmp_path / "b.mp4", (1, 0, 0, 1), picture())
    camera = {"size": [64, 48], "K": [[60.0, 0, 31.5], [0, 60.0, 23.5], [0, 0, 1]], "dist": [0, 0, 0, 0],
              "R": np.eye(3).tolist(), "t": [0, 0, 3]}  # fmt: skip
    (tmp_path / "calib.json").write_text(json.dumps({"cameras": {"a": camera, "b": camera}}))
    rows, [reject] = rows_of("multiview", tmp_path)
    assert [row["view"] for row in rows] == ["b"]
    assert reject.reason == "mirrored" and reject.error_class == "data" and "a.mp4" in reject.message
