"""A whole ingestion in a process of its own, which tests may kill: three `dimo ingest` in one session."""

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
"""Ray gives up where its agents take more than 15 seconds to start, as on a busy machine (its issue 65983)."""
SHOWN = "pan_right.mp4", "static.mp4"
FREE = bytes([0, 0, 0, 8]) + b"free"  # a box of MP4 without meaning


def make_inputs(data: Path, root: Path, server: MediaServer) -> None:
    """Two short videos, one of them under another name and in another file as well, a broken one and one that is gone;
    a render with truth; a rig of which two cameras have no video."""
    root.mkdir()
    for name in SHOWN:
        server.files[name] = (data / "internet" / "virtual_camera" / name).read_bytes()
    whole = server.files["static.mp4"]
    server.files |= {"copy.mp4": whole, "repacked.mp4": whole + FREE, "broken.mp4": whole[:2000] + bytes(90_000)}
    urls = [f"{server.url}/file/{name}" for name in [*server.files, "gone.mp4"]]
    (root / "list.csv").write_text("\n".join(["url", *urls]))
    only(writable(data / "ue5" / "mini_bedlam1", root / "job"), "seq_000003")
    rig = root / "rig"
    rig.mkdir()
    for name in ("cam_0.mp4", "cam_1.mp4", "camera_array.toml", "charuco.toml", "timestamps.csv"):
        shutil.copyfile(data / "multiview" / "desk_board_4cam" / name, rig / name)


def drive(lake: str, inputs: Path, sign: Path) -> None:
    """Ingest all of it; `sign` is made when the session stands. Exits with what went wrong."""
    internet = ["internet", inputs / "list.csv", "--allow-private", "--licence", "test", "--host-rate", "0"]
    with lake_session(lake):
        sign.touch()
        for arguments in (internet, ["unreal", inputs / "job"], ["multiview", inputs / "rig"]):
            answer = dimo("--debug", "ingest", *arguments, "--lake", lake)
            if answer.returncode:
                sys.exit(answer.stderr)


@dataclass
class Driver:
    """A running ingestion, and every process that it was seen to have."""

    process: "subprocess.Popen[bytes]"
    seen: set[Process] = field(default_factory=set)

    @classmethod
    def start(cls, lake: Path, inputs: Path, sign: Path) -> "Driver":
        """Start one, and wait until it works; again where Ray does not come up."""
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "tests.dags.ingestion", *map(str, (lake, inputs, sign))]
        said = Path(f"{sign}.log")
        for _ in range(STARTS):
            with said.open("wb") as log:
                driver = cls(subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True))
            while driver.runs and not sign.exists():
                driver.family()
                time.sleep(0.1)
            if sign.exists():
                return driver
        raise AssertionError(said.read_text())

    @property
    def runs(self) -> bool:
        """Whether it is not over."""
        return self.process.poll() is None

    def family(self) -> list[Process]:
        """What it started that is alive now."""
        found = descendants(self.process.pid)
        self.seen.update(found)
        return found

    def workers(self) -> list[Process]:
        """Ray's workers that hold a stage, and what these started."""
        held = [process for process in self.family() if process.command.startswith("ray::Worker")]
        return held + [child for worker in held for child in descendants(worker.pid)]


if __name__ == "__main__":
    drive(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
