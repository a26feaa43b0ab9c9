"""Subprocess that opens untrusted media: it may crash, hang or run out of memory without harm to the worker.

A request is a line of JSON with a path, a time limit and the query (`info`: metadata; `stream`: hash of the video
stream). The answer is a line of JSON with the result or a problem.
"""

import json
import resource
import signal
import sys
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error

from opendimo.storage_schemas.media.colour import UnknownColours
from opendimo.storage_schemas.media.image_sequence import is_pattern
from opendimo.storage_schemas.media.stream_hash import stream_sha256
from opendimo.storage_schemas.media.video import probe

MEMORY = 4 << 30  # bytes of address space
MAX_PIXELS = 1 << 26  # per frame: 8192 x 8192
CONTAINERS = "mov,mp4,m4v,matroska,webm,avi,mpeg,mpegts,mpegvideo,asf,flv,ogg,mxf,h264,hevc,ivf,obu,nut,dv,gif"
"""Allowed container formats. Playlists are excluded, as they make the reader open other files and hosts."""


def main() -> None:
    """Answer requests from standard input until it ends."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    for line in sys.stdin.buffer:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, request["seconds"])  # SIGALRM kills this process when the time is up
        answer = _answer(request["path"], request["asked"])
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.stdout.write(json.dumps(answer, default=_jsonable) + "\n")
        sys.stdout.flush()


def _answer(path: str, query: str) -> dict[str, Any]:
    try:
        return _stream(path) if query == "stream" else _info(path)
    except FileNotFoundError:
        return {"problem": "gone"}
    except MemoryError:
        return {"problem": "memory"}
    except av.error.FFmpegError as error:
        return {"problem": "unreadable", "text": f"not a readable video: {error.strerror or type(error).__name__}"}
    except ValueError as error:
        return {"problem": "colours" if isinstance(error, UnknownColours) else "unreadable", "text": str(error)}
    except OSError as error:
        return {"problem": "disk", "text": error.strerror}


def _info(path: str) -> dict[str, Any]:
    if not is_pattern(path):
        _check(path)
    return {"info": asdict(probe(Path(path)))}


def _stream(path: str) -> dict[str, Any]:
    return {"stream": stream_sha256(Path(path))}


def _check(path: str) -> None:
    """Check a file before a frame is decoded. Raises `ValueError` if it is unacceptable, and FFmpeg's errors."""
    if Path(path).stat().st_size == 0:
        raise ValueError("the file is empty")
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}
    with av.open(f"file:{path}", "r", options=options, metadata_errors="replace") as container:
        for stream in container.streams.video:
            if (pixels := stream.codec_context.width * stream.codec_context.height) > MAX_PIXELS:
                raise ValueError(f"a frame has {pixels} pixels, more than {MAX_PIXELS}")


def _jsonable(value: Any) -> Any:
    if isinstance(value, Fraction):
        return {"fraction": str(value)}
    raise TypeError(f"no JSON for {type(value).__name__}")


if __name__ == "__main__":
    main()
