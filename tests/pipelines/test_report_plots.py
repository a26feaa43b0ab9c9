"""Tests of the drawings of a report: contact sheets, camera paths, timelines, curves."""

import json
import re

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opendimo.pipelines.engine.rejects import group_rejects
from opendimo.pipelines.report.losses import read_losses
from opendimo.pipelines.report.paths import SIDE, top_view
from opendimo.pipelines.report.plots import Scale, significant
from opendimo.pipelines.report.sheets import contact_sheet
from opendimo.pipelines.report.timeline import lanes
from opendimo.storage_schemas.media.video import decode
from opendimo.storage_schemas.rows import rows_to_arrow
from opendimo.storage_schemas.tables import TABLES
from tests.pipelines.report_lake import HEIGHT, WIDTH, cameras, clip_row, film, pose_row, reject_row


def test_tiles_of_a_contact_sheet_are_the_frames_they_say(tmp_path) -> None:
    clip = clip_row("a", track=None)
    sheet = contact_sheet(film(), clip, None)  # 3 x 2 tiles of 272 x 182, gap 4
    frames = decode(film())
    for k, frame in enumerate((2, 6, 10, 14, 18, 22)):
        y, x = k // 3 * (182 + 4), k % 3 * (272 + 4)
        tile = cv2.resize(sheet[y : y + 182, x : x + 272], (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        difference = [np.abs(tile.astype(int) - f).mean() for f in frames]
        assert int(np.argmin(difference)) == frame


def test_rejects_that_differ_in_names_paths_and_numbers_are_one_line() -> None:
    rows = [reject_row(k) for k in range(1000)] + [reject_row(1) | {"message": "no video stream"}]
    groups = group_rejects(rows_to_arrow(TABLES["rejects"], [row | {"run_id": "run"} for row in rows]))
    assert [(g.count, len(g.names), g.unnamed) for g in groups] == [(1000, 3, 997), (1, 1, 0)]


def test_the_top_view_is_seen_from_above_with_the_first_camera_looking_up() -> None:
    # OpenCV axes: a camera that looks along +z and moves to its right is drawn below the person and moves right
    clip = clip_row("a", world_to_camera=cameras(2.0))
    top = top_view([clip], {"clip a": pose_row("a")}, np.float32([0, 1, 0]))
    line = [tuple(map(float, p.split(","))) for p in top.paths[0].line.split()]
    assert line[-1][0] > line[0][0] and line[-1][1] == line[0][1]
    person = [tuple(map(float, p.split(","))) for p in top.person.split()]
    assert person[0][1] < line[0][1]  # the person is 4 m ahead, so closer to the top
    assert person[0][0] == line[0][0] and person[-1][0] == line[-1][0]  # the label is 0 m to the right of the camera
    length, name = top.ruler
    assert name == "1 m" and length == pytest.approx((line[0][1] - person[0][1]) / 4, abs=0.1)


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3), st.floats(-3, 3), st.floats(-1.5, 1.5))
def test_a_camera_path_stays_on_the_drawing(place, heading, pitch) -> None:
    rotation = cv2.Rodrigues(np.array([pitch, 0, 0]))[0] @ cv2.Rodrigues(np.array([0, heading, 0]))[0]
    pose = np.concatenate([rotation, np.array(place)[:, None]], axis=1)[None].astype(np.float32)
    top = top_view([clip_row("a", world_to_camera=pose)], {}, None)
    points = re.findall(r"(-?[\d.]+),(-?[\d.]+)", top.paths[0].line)
    assert points and all(0 <= float(v) <= SIDE for point in points for v in point)


def test_overlapping_camera_terms_are_in_lanes_of_their_own() -> None:
    def term(name: str, start: int, end: int) -> dict:
        return {"term": name, "speed": "slow", "start_frame": start, "end_frame": end}

    found = lanes([term("tilt_up", 10, 40), term("pan_left", 0, 20), term("static", 20, 50)], 50)
    assert [[span.term for span in lane] for lane in found] == [["pan left", "static"], ["tilt up"]]
    assert (found[1][0].left, found[1][0].width, found[1][0].family) == (20.0, 60.0, "turn")


def test_losses_are_read_from_the_metrics_of_a_run_that_is_still_going(tmp_path) -> None:
    lines = [{"event": "stage_start", "step": 0, "stage": "single_view", "fixed_loss": 1.5, "mix": {"same_view": 1.0}}]
    lines += [
        {"step": k, "stage": "single_view", "loss": 1 / k, "geometry_weight": 0.1, "seconds": 0.5} for k in range(1, 9)
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"step": 9, "sta')
    losses = read_losses(tmp_path)
    stage = losses.stages[0]
    assert (losses.steps, stage.steps, stage.seconds_per_step) == (8, 8, 0.5)
    assert stage.before["fixed_loss"] == 1.5 and stage.after == {}
    assert len(losses.curves) == 2 and len(losses.curves[0].line.split()) == 8


@settings(deadline=None)
@given(st.floats(-1e5, 1e5), st.floats(0.001, 1e5))
def test_ticks_are_round_and_inside(low, width) -> None:
    scale = Scale(low, low + width, 0, 100)
    ticks = scale.ticks()
    assert 1 <= len(ticks) <= 6
    assert all(low - 1e-6 * width <= t <= low + width * (1 + 1e-6) for t in ticks)


@pytest.mark.parametrize(("value", "text"), [(1256.4, "1,256"), (0.04321, "0.0432"), (2e-5, "< 0.0001"), (0, "0")])
def test_numbers_are_written_for_people(value, text) -> None:
    assert significant(value) == text
