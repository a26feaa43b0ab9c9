"""Run the whole DAG on real files: `dimo demo` twice, and `dimo generate`."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.media.video import decode
from opendimo.storage_schemas.releases.release import open_release
from tests.dags.command import dimo


def demo(*args: str | Path) -> dict[str, Any]:
    """Run `dimo demo` in a separate process; return its JSON result."""
    code = "from opendimo.dags.cli import main; main()"
    command = [sys.executable, "-c", code, "--debug", "demo", "--json", *map(str, args)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=1500, check=False)
    assert answer.returncode == 0, answer.stderr[-4000:]
    return dict(json.loads(answer.stdout))


def copy_start(video: Path, out: Path, seconds: float) -> None:
    """Write the first `seconds` of a video to `out`, without re-encoding."""
    with av.open(str(video)) as source, av.open(str(out), "w") as target:
        [stream] = source.streams.video
        copy = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is not None and packet.pts * packet.time_base < seconds:
                packet.stream = copy
                target.mux(packet)


@pytest.fixture(scope="module")
def inputs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return paths of real and broken clips, renders with ground truth, and a rig with one uncalibrated camera."""
    root = tmp_path_factory.mktemp("inputs")
    internet = root / "internet"
    internet.mkdir()
    for name, seconds in (("juggle_static_fullbody.mp4", 3), ("pedestrians_static_multi.mp4", 5)):
        copy_start(data / "internet" / name, internet / name, seconds)
    (internet / "empty.mp4").touch()
    (internet / "text.mp4").write_text("I am a letter.")
    content = (data / "internet" / "juggle_static_fullbody.mp4").read_bytes()
    (internet / "corrupt.mp4").write_bytes(content[:2000] + bytes(4000))
    rig = root / "rig"
    shutil.copytree(data / "multiview" / "balance_1person_4cam", rig, copy_function=shutil.copyfile)
    shutil.copyfile(rig / "cam01.mp4", rig / "cam99.mp4")
    return {"internet": internet, "unreal": data / "ue5" / "mini_bedlam1", "multiview": rig}


@pytest.fixture(scope="module")
def ran(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[str | Path]]:
    """Run the demo; return its result and its arguments."""
    args: list[str | Path] = ["--out", tmp_path_factory.mktemp("out"), "--steps", "64"]
    for kind, path in inputs.items():
        args += [f"--{kind}", path]
    return demo(*args), args


pytestmark = pytest.mark.timeout(1600)


def test_every_input_is_accounted_for(ran: tuple[dict[str, Any], Any]) -> None:
    stages = {row["stage"]: row for row in ran[0]["funnel"]}
    for row in stages.values():
        assert row["inputs"] == row["done"] + sum(row["filtered"].values()) + sum(row["rejected"].values())
    assert (stages["sources"]["inputs"], stages["sources"]["done"]) == (5 + 4 + 5, 2 + 4 + 4)
    assert stages["sources"]["rejected"] == {"data": 4}
    assert stages["verdict"]["filtered"] == {"several_people": 2}
    assert stages["verdict"]["done"] == 1 + 3 + 4


def test_what_is_wrong_is_said(ran: tuple[dict[str, Any], Any]) -> None:
    messages = {row["name"]: row["message"] for row in Lake(ran[0]["lake"]).read("rejects")}
    assert set(messages) == {"empty.mp4", "text.mp4", "corrupt.mp4", "rig/cam99"}
    assert "the file is empty" in messages["empty.mp4"]
    assert "not a readable video" in messages["text.mp4"]
    assert "cam99" in messages["rig/cam99"] and "Calib.qca.txt has cam01" in messages["rig/cam99"]


def test_the_juggler_is_kept_and_the_crowd_is_not(ran: tuple[dict[str, Any], Any]) -> None:
    people = {row["name"].split()[0]: row["people"] for row in Lake(ran[0]["lake"]).read("clips")}
    assert people["juggle_static_fullbody.mp4"] == 1
    assert people["pedestrians_static_multi.mp4"] > 1


def test_four_views_are_one_capture_with_one_body(ran: tuple[dict[str, Any], Any]) -> None:
    lake = Lake(ran[0]["lake"])
    clips = lake.read("clips", where="kind = 'multiview'")
    assert len(clips) == 4 and len({clip["capture_id"] for clip in clips}) == 1
    views = {clip["clip_id"]: clip["view"] for clip in clips}
    poses = {views[p["clip_id"]]: p for p in lake.read("poses") if p["clip_id"] in views}
    assert {p["estimator"] for p in poses.values()} == {"multiview mediapipe"}
    assert all(np.mean(p["valid"]) > 0.9 and p["reprojection"] < 0.04 for p in poses.values())
    late = poses.pop("cam03")["body_pose"]
    usual, *others = [pose["body_pose"] for pose in poses.values()]
    for other in others:
        np.testing.assert_allclose(other, usual, atol=1e-4)
    assert np.abs(late[2:] - usual[:-2]).mean() < 0.5 * np.abs(late - usual).mean()  # cam03 is late by 2.3 frames


def test_the_release_opens_and_holds_all_kinds_it_can(ran: tuple[dict[str, Any], Any]) -> None:
    release = open_release(ran[0]["lake"], ran[0]["release"])
    assert set(release.manifest["by_kind"]) == {"same_view", "cross_view"}
    assert release.manifest["pairs"] == len(release.read("pairs"))


def test_the_loss_of_every_stage_falls(ran: tuple[dict[str, Any], Any]) -> None:
    losses = ran[0]["losses"]
    assert [row["stage"] for row in losses] == ["single_view", "mixed_view", "multi_view"]
    assert all(row["after"] < row["before"] for row in losses), losses


def test_the_clip_follows_its_driving_video(ran: tuple[dict[str, Any], Any], data: Path, tmp_path: Path) -> None:
    clip = Path(ran[0]["clip"])
    record = json.loads(clip.with_suffix(".json").read_text())
    drivers = [data / "internet" / name for name in ("dance_balloon_static.mp4", "generated_dance_indoor.mp4")]
    videos = []
    for k, driving in enumerate(drivers):
        out = tmp_path / f"{k}.mp4"
        pipeline = ["--checkpoint", record["pipeline"], "--reference", record["reference"]]
        options = ["--driving", driving, "--prompt", "A test.", "--steps", "4", "--out", out]
        answer = dimo("--debug", "generate", *pipeline, *options)
        assert answer.returncode == 0, answer.stderr[-4000:]
        videos.append(decode(out).astype(int))
    assert np.abs(videos[0] - videos[1]).max() > 2


def test_the_report_shows_it(ran: tuple[dict[str, Any], Any]) -> None:
    page = Path(ran[0]["report"]).read_text()
    assert all(word in page for word in ("juggle_static_fullbody.mp4", "several people", "cam99", ran[0]["release"]))


def test_a_second_run_redoes_nothing(ran: tuple[dict[str, Any], list[str | Path]]) -> None:
    first, args = ran
    lake = Lake(first["lake"])
    versions = {table: lake.dataset(table).version for table in ("sources", "clips", "poses", "latents", "pairs")}
    written = {path: Path(first[path]).stat().st_mtime_ns for path in ("clip",)}
    started = time.monotonic()
    assert demo(*args) == first
    assert {table: lake.dataset(table).version for table in versions} == versions
    assert {path: Path(first[path]).stat().st_mtime_ns for path in written} == written
    print(f"second run: {time.monotonic() - started:.0f} s")
