"""All real data in one lake: every input is accounted for, and what is known about it holds."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage_schemas.lake import Lake
from tests.dags.command import dimo

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

INTERNET = {
    "juggle_static_fullbody.mp4": (1280, 720, 24, 247),
    "dance_balloon_static.mp4": (1280, 720, 30, 330),
    "cups_hands_static.mp4": (1280, 720, Fraction(30000, 1001), 300),
    "generated_dance_indoor.mp4": (576, 1024, 30, 300),
    "pedestrians_static_multi.mp4": (768, 576, 10, 150),
    "driving_pose_dwpose.mp4": (512, 704, 30, 200),
}
"""Width, height, frames per second, frames; the seven virtual cameras are 640x360 with 24 and 96."""


@pytest.fixture(scope="module")
def lake(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    home = tmp_path_factory.mktemp("all") / "lake"
    for kind, folder in (("internet", "internet"), ("unreal", "ue5"), ("multiview", "multiview")):
        answer = dimo("ingest", kind, data / folder, "--lake", home, "--json")
        assert answer.returncode == 0, answer.stderr
    return Lake(home)


def test_every_input_is_accounted_for(lake: Lake, data: Path) -> None:
    kinds = [row["kind"] for row in lake.read("sources")]
    folders = {"internet": "internet", "unreal": "ue5", "multiview": "multiview"}
    for kind, folder in folders.items():
        assert kinds.count(kind) == len(list((data / folder).rglob("*.mp4"))), kind
    assert lake.read("rejects") == []


def test_sizes_rates_and_frames_are_those_known(lake: Lake) -> None:
    found = {Path(row["local_path"]).name: row for row in lake.read("sources", where="kind = 'internet'")}
    facts = {
        name: (row["width"], row["height"], Fraction(row["fps_num"], row["fps_den"]), row["frames"])
        for name, row in found.items()
    }
    virtual = {name for name, row in found.items() if "virtual_camera" in row["local_path"]}
    assert {name: facts[name] for name in INTERNET} == INTERNET
    assert len(virtual) == 7 and {facts[name] for name in virtual} == {(640, 360, 24, 96)}


def of(lake: Lake, name: str) -> list[dict[str, Any]]:
    return [row for row in lake.read("clips") if row["name"].startswith(name)]


def test_people_are_counted_and_hands_are_seen(lake: Lake) -> None:
    assert all(row["people"] == 1 for row in of(lake, "juggle") + of(lake, "generated_dance"))
    assert of(lake, "pedestrians")[0]["people"] > 1
    assert of(lake, "juggle")[0]["hands_visible"] > 0.7
    assert of(lake, "dance_balloon")[0]["hands_visible"] > 0.7
    assert of(lake, "dance_balloon")[0]["body_visible"] < of(lake, "juggle")[0]["body_visible"]  # thighs up


def test_views_are_upright(lake: Lake) -> None:
    """Two are stored as they are seen, one of them as VP9; all hold somebody who stands higher than wide."""
    views = of(lake, "balance")
    assert {row["view"] for row in views} == {"cam01", "cam02", "cam03", "cam04"}
    for row in views:
        sides = np.nanmedian(row["track"][:, 2:] - row["track"][:, :2], axis=0)
        assert row["height"] > row["width"] and sides[1] > sides[0], row["view"]


def test_rigs_are_measured(lake: Lake) -> None:
    rigs = [{camera["view"]: camera for camera in row["cameras"]} for row in lake.read("rigs")]
    [balance] = [rig for rig in rigs if "cam03" in rig]
    [board] = [rig for rig in rigs if "cam03" not in rig]
    assert {view: camera["verdict"] for view, camera in balance.items()} == {
        "cam01": "ok", "cam02": "ok", "cam03": "late", "cam04": "ok",
    }  # fmt: skip
    assert balance["cam03"]["offset_frames"] == pytest.approx(2, abs=0.7)
    assert {camera["verdict"] for camera in board.values()} == {"ok"}
    assert all(abs(camera["offset_frames"]) < 0.01 for camera in board.values())  # its timestamps say so
    assert all(0.4 < camera["residual_px"] < 1.5 for camera in board.values())  # 0.7 to 1.4 by the published corners
