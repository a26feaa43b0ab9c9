"""Probe video files in a subprocess that may crash: started once per worker, restarted after each crash."""

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

from opendimo.pipelines.engine.stage import DataError, PermanentError, TransientError
from opendimo.pipelines.sources import probe_child
from opendimo.pipelines.sources.downloads.urls import printable
from opendimo.pipelines.sources.signatures import LENGTH, foreign
from opendimo.storage_schemas.media.video import VideoInfo

CHILD = Path(probe_child.__file__)  # run by path, to skip the imports of the packages around it
SECONDS = 30.0  # time limit for one file
READ = 10_000_000.0  # lowest expected disk throughput, bytes per second
DEATHS = 3  # crashes on one file before the file is rejected; fewer may have other causes
HELP = "Replace it by a playable video, or remove it"


class Prober:
    """The probing subprocess and the pipe to it. It exits when its owner exits, even if that is killed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def ask(self, path: Path, seconds: float, query: str = "info") -> dict[str, Any]:
        """Return the subprocess's answer; its `problem` is `crashes` or `hangs` if it died on the file."""
        request = json.dumps({"path": str(path), "seconds": seconds, "asked": query}) + "\n"
        with self._lock:
            for _ in range(DEATHS):
                process = self._process = self._process or _start()
                if (answer := _exchange(process, request.encode())).endswith(b"\n"):
                    return dict(json.loads(answer, object_hook=_fractions))
                self.close()
                if process.returncode == -signal.SIGALRM:
                    return {"problem": "hangs"}
            return {"problem": "crashes"}

    def close(self) -> None:
        """Kill the subprocess."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


_PROBER = Prober()
atexit.register(_PROBER.close)


def probe_safely(path: Path, seconds: float = SECONDS) -> VideoInfo:
    """Return the metadata of an untrusted video file.

    Raises `DataError` (empty, archive, not_a_video, colours, crashes, hangs, memory), `PermanentError` if the file is
    gone and `TransientError` if the disk fails.
    """
    name = printable(str(path), limit=500)
    if path.is_file():
        with path.open("rb") as stream:
            other = foreign(stream.read(LENGTH))
        if other:
            raise DataError(f"{name}: not a readable video, but {other.text}. {HELP}", reason=other.reason)
    answer = _PROBER.ask(path, seconds)
    match answer.get("problem"):
        case None:
            return VideoInfo(**answer["info"])
        case "gone":
            text = f"{name}: the file is gone; put it back or ingest again without it"
            raise PermanentError(text, reason="gone")
        case "disk":
            raise TransientError(f"{name}: cannot be read: {answer['text']}; check the disk", reason="disk")
        case "unreadable":
            reason = "empty" if answer["text"] == "the file is empty" else "not_a_video"
            raise DataError(f"{name}: {printable(answer['text'], 500)}. {HELP}", reason=reason)
        case "colours":
            raise DataError(f"{name}: {answer['text']}", reason="colours")
        case problem:
            word = {"hangs": f"takes more than {seconds:g} s", "memory": "takes too much memory"}.get(problem, "dies")
            raise DataError(f"{name}: not a readable video: the reader {word} on it. {HELP}", reason=problem)


def stream_hash(path: Path) -> str | None:
    """Return `stream_sha256` of a video that `probe_safely` accepted; None if it cannot be read to its end in time."""
    sha256 = _PROBER.ask(path, SECONDS + path.stat().st_size / READ, "stream").get("stream")
    return None if sha256 is None else str(sha256)


def _exchange(process: "subprocess.Popen[bytes]", request: bytes) -> bytes:
    """Send a request and return the answer line; it lacks the newline if the process died."""
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(request)
        process.stdin.flush()
        return process.stdout.readline()
    except BrokenPipeError:
        return b""


def _start() -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-P", str(CHILD)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment | {"OPENBLAS_NUM_THREADS": "1"},
    )


def _fractions(value: dict[str, Any]) -> Any:
    return Fraction(value["fraction"]) if set(value) == {"fraction"} else value
