"""Commands that `faults.py` disturbs: their inputs, when they are in the middle of their work, and their results."""

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from opendimo.model.tiny import make_tiny_base
from opendimo.storage_schemas.ids import sha256_bytes
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.runs import staged_shards, unfinished
from opendimo.storage_schemas.releases.release import create_release
from tests.dags.command import dimo
from tests.dags.stored import stored
from tests.dags.test_end_to_end import copy_start
from tests.training.conftest import fill as fill_lake


class Ingest:
    """`dimo ingest` of short videos. A place is a folder with the folder `lake`."""

    name, flow = "ingest", "cut"

    def __init__(self, videos: Path) -> None:
        self.videos = videos

    def prepare(self, place: Path) -> None:
        place.mkdir(parents=True, exist_ok=True)

    def command(self, place: Path) -> list[str]:
        return ["ingest", "internet", str(self.videos), "--licence", "test", "--lake", str(place / "lake")]

    def is_midway(self, place: Path) -> bool:
        return is_partly_staged(place / "lake", "clips")

    def result(self, place: Path) -> dict[Any, str]:
        return rows_and_unfinished_runs(place / "lake")

    def writes_to(self, place: Path) -> Path:
        return place / "lake"


class Label:
    """`dimo label` of a copy of a lake with clips. A place is a folder with the folder `lake`."""

    name, flow = "label", "label"

    def __init__(self, lake: Path) -> None:
        self.lake = lake

    def prepare(self, place: Path) -> None:
        copy_lake(self.lake, place)

    def command(self, place: Path) -> list[str]:
        return ["label", "--lake", str(place / "lake")]

    def is_midway(self, place: Path) -> bool:
        return is_partly_staged(place / "lake", "poses")

    def result(self, place: Path) -> dict[Any, str]:
        return rows_and_unfinished_runs(place / "lake")

    def writes_to(self, place: Path) -> Path:
        return place / "lake"


class Train:
    """`dimo train` on a copy of a lake with the release dance@1. A place also has the folder `out`."""

    name, flow = "train", "train"

    def __init__(self, lake: Path, base: Path, steps: int) -> None:
        self.lake, self.base, self.steps = lake, base, steps

    def prepare(self, place: Path) -> None:
        copy_lake(self.lake, place)

    def command(self, place: Path) -> list[str]:
        given = ["train", "--release", "dance@1", "--base", str(self.base), "--lake", str(place / "lake")]
        return [*given, "--steps", str(self.steps), "--set", "checkpoint_every=8", "--out", str(place / "out")]

    def is_midway(self, place: Path) -> bool:
        with suppress(OSError):
            return len((place / "out" / "metrics.jsonl").read_text().splitlines()) > self.steps // 2
        return False

    def result(self, place: Path) -> dict[Any, str]:
        out = place / "out"
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        losses = {("loss", str(number), ""): line["loss"] for number, line in enumerate(lines) if "loss" in line}
        weights = {
            ("weights", str(file.relative_to(out)), ""): sha256_bytes(file.read_bytes())
            for file in sorted((out / "pipeline").rglob("*.safetensors"))
        }
        return losses | weights

    def writes_to(self, place: Path) -> Path:
        return place / "out"


Job = Ingest | Label | Train


def copy_lake(lake: Path, place: Path) -> None:
    shutil.copytree(lake, place / "lake", dirs_exist_ok=True, ignore=shutil.ignore_patterns("session"))


def is_partly_staged(lake: Path, stage: str) -> bool:
    """Return whether a stage has staged a part of its shards."""
    if not (lake / "tables" / "ledger.lance").is_dir():
        return False
    runs = [run for run in unfinished(Lake(lake)) if run.get("stage") == stage]
    return any(1 <= staged_shards(Lake(lake), run["run_id"]) < run["shards"] for run in runs)


def rows_and_unfinished_runs(lake: Path) -> dict[Any, str]:
    """Return what is stored in a lake, and an entry for each run that was not committed."""
    left = {("unfinished", run["run_id"], ""): "a run that was not committed" for run in unfinished(Lake(lake))}
    return stored(Lake(lake)) | left


def undisturbed(job: Job, place: Path) -> dict[Any, str]:
    """Run the command and return its result."""
    job.prepare(place)
    answer = dimo(*job.command(place))
    assert answer.returncode == 0, answer.stderr[-3000:]
    return job.result(place)


def make_job(name: str, data: Path, folder: Path) -> Job:
    """Make the inputs of a job in `folder`: three short videos, a lake with clips, or a small made lake with a release.

    Call it in a session.
    """
    if name == "train":
        base, lake = make_tiny_base(folder / "base"), Lake(folder / "made")
        fill_lake(lake, base)
        create_release(lake, "dance")
        return Train(folder / "made", base, 32)
    if name == "label":
        people = folder / "people"
        people.mkdir()
        for video in ("juggle_static_fullbody", "generated_dance_indoor", "dance_balloon_static"):
            copy_start(data / "internet" / f"{video}.mp4", people / f"{video}.mp4", 2.5)
        answer = dimo("ingest", "internet", people, "--licence", "test", "--lake", folder / "made")
        assert answer.returncode == 0, answer.stderr[-3000:]
        return Label(folder / "made")
    videos = folder / "videos"
    videos.mkdir()
    for video in ("pan_right", "static", "tilt_up"):
        shutil.copyfile(data / "internet" / "virtual_camera" / f"{video}.mp4", videos / f"{video}.mp4")
    return Ingest(videos)
