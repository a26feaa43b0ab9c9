"""Run a complete ingestion, three `dimo ingest` in one session, in a separate process that tests can kill."""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from opendimo.dags.session import lake_session
from tests.dags.command import dimo
from tests.dags.processes import Process, descendants
from tests.pipelines.media_server import MediaServer
from tests.pipelines.render_jobs import only, writable

ROOT = Path(__file__).parents[2]
STARTS = 5
"""Attempts to start Ray. It fails if its agents take more than 15 s, as on a busy machine (Ray issue 65983)."""
VIDEOS = "pan_right.mp4", "static.mp4"
FREE = bytes([0, 0, 0, 8]) + b"free"  # an empty MP4 `free` box, which changes the hash but not the video


def make_inputs(data: Path, root: Path, server: MediaServer) -> None:
    """Write the inputs of an ingestion to `root`.

    Internet: two short videos, of one also an exact copy and a repacked file, a broken video and a missing one. Unreal:
    a render with ground truth. Multi-view: a rig in which two cameras have no video.
    """
    root.mkdir()
    for name in VIDEOS:
        server.files[name] = (data / "internet" / "virtual_camera" / name).read_bytes()
    static = server.files["static.mp4"]
    server.files |= {"copy.mp4": static, "repacked.mp4": static + FREE, "broken.mp4": static[:2000] + bytes(90_000)}
    urls = [f"{server.url}/file/{name}" for name in [*server.files, "gone.mp4"]]
    (root / "list.csv").write_text("\n".join(["url", *urls]))
    only(writable(data / "ue5" / "mini_bedlam1", root / "job"), "seq_000003")
    rig = root / "rig"
    rig.mkdir()
    for name in ("cam_0.mp4", "cam_1.mp4", "camera_array.toml", "charuco.toml", "timestamps.csv"):
        shutil.copyfile(data / "multiview" / "desk_board_4cam" / name, rig / name)


def drive(lake: str, inputs: Path, sign: Path) -> None:
    """Ingest all inputs; create the file `sign` once the session is up. On failure, exit with the error output."""
    internet = ["internet", inputs / "list.csv", "--allow-private", "--licence", "test", "--host-rate", "0"]
    with lake_session(lake):
        sign.touch()
        for arguments in (internet, ["unreal", inputs / "job"], ["multiview", inputs / "rig"]):
            answer = dimo("--debug", "ingest", *arguments, "--lake", lake)
            if answer.returncode:
                sys.exit(answer.stderr)


@dataclass
class Driver:
    """A running ingestion, and all descendant processes observed so far."""

    process: "subprocess.Popen[bytes]"
    seen: set[Process] = field(default_factory=set)

    @classmethod
    def start(cls, lake: Path, inputs: Path, sign: Path) -> "Driver":
        """Start an ingestion and wait until its session is up; retry if Ray does not start."""
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "tests.dags.ingestion", *map(str, (lake, inputs, sign))]
        log_path = Path(f"{sign}.log")
        for _ in range(STARTS):
            with log_path.open("wb") as log:
                driver = cls(subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True))
            while driver.runs and not sign.exists():
                driver.family()
                time.sleep(0.1)
            if sign.exists():
                return driver
        raise AssertionError(log_path.read_text())

    @property
    def runs(self) -> bool:
        """Return whether the driver is still running."""
        return self.process.poll() is None

    def family(self) -> list[Process]:
        """Return the living descendants of the driver, and add them to `seen`."""
        processes = descendants(self.process.pid)
        self.seen.update(processes)
        return processes

    def workers(self) -> list[Process]:
        """Return the Ray workers that run a stage, and their descendants."""
        stage_workers = [process for process in self.family() if process.command.startswith("ray::Worker")]
        return stage_workers + [child for worker in stage_workers for child in descendants(worker.pid)]


if __name__ == "__main__":
    drive(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
