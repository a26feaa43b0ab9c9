"""Measure the peak memory of cutting and staging a long video; run as a child process:
`python -m tests.pipelines.long_video FILE SECONDS WIDTH HEIGHT NOISE`."""

import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from opendimo.pipelines.clips.cut import ClipsConfig, clips_of
from opendimo.pipelines.engine.stage import Outcome, Work
from opendimo.storage_schemas.lake import runs
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.media import video
from tests.pipelines.clip_sources import source_row
from tests.pipelines.test_cutting import FixedPerson, counted

FPS = 10
PART = 2 * FPS  # number of frames that are repeated


def lengthen(path: Path, seconds: int, size: tuple[int, int], noise: int) -> Path:
    """Write a video of `seconds` that repeats the packets of two seconds, so that little is encoded.

    `noise` (standard deviation, grey levels) makes frames take many bytes.
    """
    part, rng = path.with_name("part.mp4"), np.random.default_rng(0)
    images = [cv2.resize(image, size) for image in counted(PART)]
    images = [np.clip(image + rng.normal(0, noise, image.shape), 0, 255).astype(np.uint8) for image in images]
    part.write_bytes(video.encode(images, Fraction(FPS)))
    with av.open(str(part)) as source, av.open(str(path), "w") as container:
        packets = [(p.pts, p.dts, p.is_keyframe, bytes(p)) for p in source.demux(video=0) if p.size]
        template = source.streams.video[0]
        stream = container.add_stream_from_template(template)
        ticks = round(PART / FPS / template.time_base)
        for repeat in range(seconds * FPS // PART):
            for pts, dts, is_key, content in packets:
                packet = av.Packet(content)
                packet.stream, packet.time_base, packet.is_keyframe = stream, template.time_base, is_key
                packet.pts, packet.dts = pts + repeat * ticks, dts + repeat * ticks
                container.mux(packet)
    return path


def main(path: Path, seconds: int, width: int, height: int, noise: int) -> None:
    """Print the number of frames, clips and bytes of clips, the seconds taken, and the peak memory in MiB."""
    cv2.setNumThreads(1)
    lengthen(path, seconds, (width, height), noise)
    source, started = source_row(path), time.perf_counter()
    rows, outcome = clips_of(source, ClipsConfig(), FixedPerson()), Outcome()
    outcome.add(Work("key", "item", "name"), rows)
    runs.stage_shard(Lake(path.parent / "lake"), "run", 0, outcome.rows, {})
    frames = sum(row["frames"] for row in rows["clips"])
    size = sum(len(row["video"]) for row in rows["clip_videos"])
    print(frames, len(rows["clips"]), size, round(time.perf_counter() - started), most_memory())


def most_memory() -> int:
    """Return the peak memory of this program in MiB. `ru_maxrss` would include the process that started it."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) // 1024


if __name__ == "__main__":
    np.seterr(all="raise")
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
