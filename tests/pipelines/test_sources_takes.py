"""Grouping of videos into takes and search for calibrations, in common layouts."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from opendimo.pipelines.engine.loop import run_stage
from opendimo.pipelines.engine.stage import Outcome
from opendimo.pipelines.sources import SourcesConfig, SourcesStage, discover, plan
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.media.video import encode
from tests.pipelines import calibration_files as files

UNREADABLE = Path("/proc/self/mem")  # a regular file that even root cannot read


def video(path: Path, shade: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(iter(np.full((4, 72, 128, 3), 120 + shade, np.uint8)), Fraction(30)))


def ingest(folder: Path) -> Outcome:
    works = discover("multiview", folder, SourcesConfig())
    outcome = SourcesStage("lake", SourcesConfig()).run(works)
    outcome.check(works)
    return outcome


def names(outcome: Outcome) -> list[str]:
    return sorted(row["name"] for row in outcome.rows["sources"])


def test_easymocap_folders(tmp_path: Path) -> None:
    """Without a size in intri.yml, the videos are assumed to have the size of the calibration."""
    for take in ("walk", "jump"):
        for k, camera in enumerate(files.ROTATIONS):
            video(tmp_path / take / "videos" / f"{camera}.mp4", k)
        files.write_easymocap(tmp_path / take, 0.1)
    outcome = ingest(tmp_path)
    assert names(outcome) == ["jump/c01", "jump/c02", "walk/c01", "walk/c02"] and not outcome.rejects
    assert outcome.rows["sources"][0]["K"][0, 0, 0] == files.K[0, 0] / 10
    assert names(ingest(tmp_path / "walk")) == ["walk/c01", "walk/c02"]


def test_intrinsics_of_another_size_than_the_videos_are_refused(tmp_path: Path) -> None:
    """Without a size in intri.yml, the principal point (630, 352) tells that 128x72 is not the size of the images."""
    video(tmp_path / "walk" / "videos" / "c01.mp4")
    files.write_easymocap(tmp_path / "walk")
    (reject,) = (r for r in ingest(tmp_path).rejects if r.name == "walk/c01")
    assert "principal point (630, 352) is far from the middle of 128x72 pixels" in reject.message
    assert "images of about 1261x705" in reject.message and reject.error_class == "data"


def test_a_take_that_comes_in_parts_keeps_all_its_views(tmp_path: Path) -> None:
    lake, stage = Lake(tmp_path / "lake"), SourcesStage(str(tmp_path / "lake"), SourcesConfig())
    for part, cameras in enumerate((("c01", "c02"), ("c01",))):
        folder = tmp_path / str(part) / "walk"
        for k, camera in enumerate(cameras):
            video(folder / "videos" / f"{camera}.mp4", k)
        files.write_easymocap(folder, 0.1)
        lake.append(str(part), stage.run(plan(lake, stage, "multiview", folder).all()).rows)
    (capture,) = lake.read("captures")
    assert (capture["views"], capture["sync_method"]) == (["c01", "c02"], "synchronised")


def test_pose2sim_projects(tmp_path: Path) -> None:
    """Trials share the calibration of their session; the calibration videos are not takes."""
    (tmp_path / "calibration").mkdir()
    files.write_toml(tmp_path / "calibration" / "Calib_scene.toml")
    video(tmp_path / "calibration" / "intrinsics" / "int_c01_img" / "board.mp4")
    for trial in ("Trial_1", "Trial_2"):
        for k, camera in enumerate(files.ROTATIONS):
            video(tmp_path / trial / "videos" / f"{camera}.mp4", k)
    outcome = ingest(tmp_path)
    assert names(outcome) == ["Trial_1/c01", "Trial_1/c02", "Trial_2/c01", "Trial_2/c02"] and not outcome.rejects
    assert outcome.rows["sources"][0]["K"][0, 0, 0] == files.K[0, 0] / 10  # the videos are a tenth as wide


def test_panoptic_sequences(tmp_path: Path) -> None:
    """Cameras of the studio without a video are ignored."""
    files.write_panoptic(tmp_path / "calibration_171026_pose1.json")
    video(tmp_path / "hdVideos" / "hd_c01.mp4")
    outcome = ingest(tmp_path)
    assert names(outcome) == ["hdVideos/c01"] and not outcome.rejects
    assert outcome.rows["captures"][0]["gravity_down"].tolist() == [0, 1, 0]


def test_aist_videos_lie_together(tmp_path: Path) -> None:
    cameras = tmp_path / "cameras"
    cameras.mkdir()
    files.write_aist(cameras / "setting4.json")
    (cameras / "mapping.txt").write_text("gBR_sBM_cAll_d04_mBR0_ch01 setting4\n")
    for number in (1, 2):
        for k, camera in enumerate(files.ROTATIONS):
            video(tmp_path / f"gBR_sBM_{camera}_d04_mBR0_ch0{number}.mp4", 10 * number + k)
    outcome = ingest(tmp_path)
    assert names(outcome) == [f"gBR_sBM_cAll_d04_mBR0_ch01/{camera}" for camera in files.ROTATIONS]
    assert {reject.name for reject in outcome.rejects} == {
        "gBR_sBM_cAll_d04_mBR0_ch02/c01",
        "gBR_sBM_cAll_d04_mBR0_ch02/c02",
    }
    assert "no line `gBR_sBM_cAll_d04_mBR0_ch02 settingN`" in outcome.rejects[0].message
    assert outcome.rows["captures"][0]["gravity_down"].tolist() == [0, -1, 0]


def test_a_mapping_that_is_no_text_costs_its_own_takes_only(tmp_path: Path) -> None:
    video(tmp_path / "aist" / "gBR_sBM_c01_d04_mBR0_ch01.mp4")
    (tmp_path / "aist" / "mapping.txt").write_bytes(b"\xff\xfe\x00")
    video(tmp_path / "walk" / "videos" / "c01.mp4")
    files.write_easymocap(tmp_path / "walk", 0.1)
    outcome = ingest(tmp_path)
    assert names(outcome) == ["walk/c01"] and any("not a text file" in reject.message for reject in outcome.rejects)


@pytest.mark.skipif(not UNREADABLE.exists(), reason="needs a file that opens but cannot be read")
def test_a_take_whose_first_video_cannot_be_read_costs_itself_only(tmp_path: Path) -> None:
    for take in ("jump", "walk"):
        video(tmp_path / take / "videos" / "c02.mp4")
        files.write_easymocap(tmp_path / take, 0.1)
    (tmp_path / "jump" / "videos" / "c01.mp4").symlink_to(UNREADABLE)
    outcome = ingest(tmp_path)
    assert names(outcome) == ["walk/c02"]
    assert [r.name for r in outcome.rejects if "cannot be read" in r.message] == ["jump/c01", "jump/c02"]


@pytest.mark.parametrize("setting", ["../../etc/passwd", "/etc/passwd"])
def test_a_mapping_may_not_lead_out_of_its_folder(tmp_path: Path, setting: str) -> None:
    (tmp_path / "mapping.txt").write_text(f"gBR_sBM_cAll_d04_mBR0_ch01 {setting}\n")
    video(tmp_path / "gBR_sBM_c01_d04_mBR0_ch01.mp4")
    assert "no line" in ingest(tmp_path).rejects[0].message


def rig(folder: Path, cameras: tuple[str, ...] = ("c01", "c02"), shade: int = 0) -> None:
    for k, camera in enumerate(cameras):
        video(folder / "videos" / f"{camera}.mp4", 10 * k + shade)
    files.write_easymocap(folder, 0.1)


def planned(lake: Lake, path: Path, config: SourcesConfig | None = None) -> int:
    """Run what is open of a plan; return the number of open works."""
    stage = SourcesStage(lake.uri, config or SourcesConfig())
    done = set(lake.column("sources", "work_key").to_pylist())
    works = plan(lake, stage, "multiview", path).all()
    account = run_stage(lake, stage, plan(lake, stage, "multiview", path))
    assert account.done == account.inputs == len(works)
    return len([work for work in works if work.key not in done])


def identity(lake: Lake) -> list[tuple[str, str, str]]:
    """Return the sources and their captures, which must be those in `captures`."""
    rows = lake.read("sources", ["source_id", "name", "capture_id"])
    assert {row["capture_id"] for row in rows} == set(lake.column("captures", "capture_id").to_pylist())
    return sorted((row["name"], row["source_id"], row["capture_id"]) for row in rows)


@pytest.mark.parametrize("first", ["studio", "day", "take", "videos", "link"])
def test_a_rig_is_one_by_whatever_folder_it_is_reached(tmp_path: Path, first: str) -> None:
    studio, lake = tmp_path / "studio", Lake(tmp_path / "lake")
    rig(studio / "monday" / "walk")
    (tmp_path / "link").symlink_to(studio / "monday" / "walk")
    day = studio / "monday"
    paths = {"studio": studio, "day": day, "take": day / "walk", "videos": day / "walk" / "videos"}
    paths["link"] = tmp_path / "link"
    assert planned(lake, paths[first]) == 2
    rows = identity(lake)
    for path in paths.values():
        assert planned(lake, path) == 0
    assert identity(lake) == rows and len(rows) == 2
    licensed = SourcesConfig(licence="CC0-1.0")
    assert planned(lake, day / "walk" / "videos", licensed) == 2 and planned(lake, studio, licensed) == 0
    assert identity(lake) == rows and lake.column("sources", "licence").to_pylist() == ["CC0-1.0"] * 2


def test_a_moved_rig_is_the_same_and_is_read_where_it_is_now(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    rig(tmp_path / "old" / "monday" / "walk")
    planned(lake, tmp_path / "old")
    rows = identity(lake)
    (tmp_path / "new").mkdir()
    (tmp_path / "old" / "monday" / "walk").rename(tmp_path / "new" / "stroll")
    assert planned(lake, tmp_path / "new") == 2 and planned(lake, tmp_path / "new") == 0
    assert identity(lake) == rows
    assert all("new/stroll" in path for path in lake.column("sources", "local_path").to_pylist())


def test_copies_of_a_rig_are_one_take_with_the_views_of_both(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The second take has other pictures under the same calibration, so it is another one."""
    lake = Lake(tmp_path / "lake")
    rig(tmp_path / "studio" / "walk", ("c01",))
    rig(tmp_path / "studio" / "copy")
    rig(tmp_path / "studio" / "jump", shade=40)
    config = SourcesConfig()
    works = plan(lake, SourcesStage(lake.uri, config), "multiview", tmp_path / "studio").all()
    lake.append("first", SourcesStage(lake.uri, config).run(works).rows)
    names = lake.column("sources", "name").to_pylist()
    assert sorted(names) == ["copy/c01", "copy/c02", "jump/c01", "jump/c02"]
    assert [row["views"] for row in lake.read("captures")] == [["c01", "c02"]] * 2
    assert "walk/videos/c01.mp4: a copy of" in caplog.text
