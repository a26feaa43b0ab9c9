"""Cutting videos into clips, against other ways to the same clips, and against the least that any way must do.

All on the same files with the same encoder settings and threads, each way in processes of its own:

- `bare`: decode once, scale, encode once: no shots, no people, no scores. The floor.
- `scripts`: what people write: PySceneDetect over the file, then for every scene seek, decode, scale and encode again.
- `ours`: shots, all scores, hashes, and clips; people and cameras are known, as in a render, so no bars are looked for.
- `ours + detector`: the same with people detected and followed; the detector's own time is this less the one above.
  A worker loads the models once, so loading is not counted. The limit holds for `--video` with a clip of one person.
- `ours + ONNX` (`--onnx FILE`): the same with a detector in a file, RTMDet or YOLOX, on `--device` cpu or cuda.
- `data-juicer` (`--data-juicer PYTHON`, an interpreter that has it): shots, clips, motion and hashes by its operators,
  `data_juicer_steps.py`, with as many threads as its `ffmpeg` likes; it encodes twice, with FFmpeg's own settings.

Data-Juicer 1.6.1 installs with Python 3.11, but not beside ours (its video operators pin PyAV 13.1, ours needs 18), so
it has an interpreter of its own; it needs `aiohttp` and `ray` without saying so. NeMo Curator 1.4.0 is left out: its
`video_cpu` pins PyAV 17.1 and cosmos-xenna 0.2 and brings torch and Ray; pip, held to wheels, fails on comment_parser,
which has none, and with sources allowed was still resolving after three minutes.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import scenedetect  # not counted to anybody's time
from rich.console import Console
from rich.table import Table

from opendimo.pipelines.clips.cut import ClipsConfig, clips_of, fit
from opendimo.pipelines.people.batches import OnnxDetector
from opendimo.pipelines.people.detector import Detector
from opendimo.pipelines.people.follow import PeopleConfig
from opendimo.pipelines.people.onnx_boxes import OnnxConfig
from opendimo.storage_schemas.media import video

SIZE, FPS, SHOTS, FRAMES = (1280, 720), 30, 3, 150
LIMIT = 1.3
"""What `ours` may take over `bare`."""
DETECTOR_LIMIT = 1.5
"""What the detector may take over `bare`, on clips of one person."""
DATA_JUICER = Path(__file__).with_name("data_juicer_steps.py")
Counts = dict[str, int]


def main() -> None:
    """Every way in turn, `--rounds` times; ratios round by round."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.ingest", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--video", type=Path, help="a video of people instead of a made one")
    parser.add_argument("--data-juicer", help="the Python interpreter that has Data-Juicer")
    parser.add_argument("--onnx", help="a person detector in an ONNX file")
    parser.add_argument("--device", default="cpu", help="of the ONNX file: cpu or cuda")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    given = parser.parse_args()
    onnx = OnnxConfig(given.onnx, device=given.device) if given.onnx else None
    if given.way:
        return _report(given.way, given.video, onnx)
    with tempfile.TemporaryDirectory() as folder:
        path = given.video or Path(folder) / "video.mp4"
        if not given.video:
            path.write_bytes(video.encode(drifting_shots(), Fraction(FPS)))
        ours = [sys.executable, "-m", "tests.benchmarks.ingest", "--video", str(path), "--way"]
        commands = {way: [*ours, way] for way in WAYS}
        if onnx:
            commands["ours + ONNX"] = [*ours, "ours + ONNX", "--onnx", onnx.path, "--device", onnx.device]
        if given.data_juicer:
            commands["data-juicer"] = [given.data_juicer, str(DATA_JUICER), str(path)]
        results: dict[str, list[dict]] = {way: [] for way in commands}
        for _ in range(given.rounds):
            for way, command in commands.items():
                results[way].append(_answer(command))
    _show(results)


def bare(path: Path) -> Counts:
    """Decode, scale, encode, once."""
    info = video.probe(path)
    encoder = video.Encoder(info.fps, video.Encoding())
    wanted = video.Wanted((info.width, info.height), fit((info.width, info.height), 480), info.rotation)
    for picture in video.pictures(path, wanted):
        encoder.push(picture)
    return {"frames": encoder.frames, "clips": 1, "bytes": len(encoder.finish())}


def scripts(path: Path) -> Counts:
    """Scenes by PySceneDetect's own call, then one pass per scene as a script around FFmpeg has it."""
    info = video.probe(path)
    wanted = video.Wanted((info.width, info.height), fit((info.width, info.height), 480), info.rotation)
    scenes = [
        (a.get_frames(), b.get_frames()) for a, b in scenedetect.detect(str(path), scenedetect.AdaptiveDetector())
    ]
    counts = {"frames": 0, "clips": 0, "bytes": 0}
    for start, stop in scenes or [(0, sys.maxsize)]:
        encoder = video.Encoder(info.fps, video.Encoding())
        for picture in _from(path, wanted, start, stop, info.fps):
            encoder.push(picture)
        counts = {"frames": counts["frames"] + encoder.frames, "clips": counts["clips"] + 1,
                  "bytes": counts["bytes"] + len(encoder.finish())}  # fmt: skip
    return counts


def ours(path: Path) -> Counts:
    """All of it, with people known."""
    source = _source(path)
    return _counts(clips_of(source | _truth(source), ClipsConfig(), None))  # type: ignore[arg-type]


def with_detector(path: Path) -> Counts:
    """All of it."""
    return _counts(clips_of(_source(path), ClipsConfig(), _detector()))


@cache
def _detector() -> Detector:
    return Detector(ClipsConfig().people.detector)


def with_onnx(path: Path, onnx: OnnxConfig, detector: OnnxDetector) -> Counts:
    """All of it, with a detector in a file."""
    config = ClipsConfig(people=PeopleConfig(onnx=onnx))
    return _counts(clips_of(_source(path), config, detector))


WAYS: dict[str, Callable[[Path], Counts]] = {
    "bare": bare,
    "scripts": scripts,
    "ours": ours,
    "ours + detector": with_detector,
}


def drifting_shots() -> Iterator[np.ndarray]:
    """Shots of smooth noise that drifts: it costs a codec about what real pictures do."""
    for shot in range(SHOTS):
        noise = np.random.default_rng(shot).integers(0, 255, (SIZE[1] // 8, SIZE[0] // 4, 3), np.uint8)
        noise[..., shot % 3] //= 3  # colours of its own, so that every detector sees the cut
        large = cv2.resize(noise, (2 * SIZE[0], SIZE[1]), interpolation=cv2.INTER_CUBIC)
        for k in range(FRAMES):
            yield np.ascontiguousarray(large[:, 2 * k : 2 * k + SIZE[0]])


def _from(path: Path, wanted: video.Wanted, start: int, stop: int, fps: Fraction) -> Iterator[video.Picture]:
    """Frames [start, stop) with a seek to the key frame before, as `ffmpeg -ss` does."""
    import av
    from av.video.reformatter import VideoReformatter

    scaler = VideoReformatter()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "AUTO", 2
        container.seek(int(start / fps / stream.time_base), stream=stream)
        for frame in container.decode(stream):
            number = round((frame.pts - (stream.start_time or 0)) * stream.time_base * fps)
            if number >= stop:
                return
            if number >= start:
                yield scaler.reformat(frame, *wanted.size, "yuv420p", interpolation="AREA", threads=1)


def _source(path: Path) -> dict:
    info = video.probe(path)
    facts = {"width": info.width, "height": info.height, "rotation": info.rotation, "kind": "internet"}
    names = ("source_id", "capture_id", "view", "name", "content_sha256", "annotation_sha256")
    rate = {"fps_num": info.fps.numerator, "fps_den": info.fps.denominator}
    return dict.fromkeys(names, "bench") | facts | rate | {"local_path": str(path), "frames": info.frames}


def _truth(source: dict) -> dict:
    """A body that stands before a camera, as renders have it."""
    width, height = source["width"], source["height"]
    joints = np.zeros((1, source["frames"], 22, 3), np.float32)
    joints[..., 1] = np.linspace(-0.8, 0.8, 22)
    joints[..., 2] = 4
    camera = np.eye(3, 4, dtype=np.float32)[None]
    K = np.array([[[width, 0, width / 2], [0, width, height / 2], [0, 0, 1]]], np.float32)
    return {"truth_joints": joints, "world_to_camera": camera, "K": K, "metric": True}


def _counts(rows: dict) -> Counts:
    frames = sum(row["frames"] for row in rows["clips"])
    return {"frames": frames, "clips": len(rows["clips"]), "bytes": sum(len(r["video"]) for r in rows["clip_videos"])}


def _report(way: str, path: Path, onnx: OnnxConfig | None) -> None:
    """In a process of its own: what came out, in what time, with how much memory at most."""
    cv2.setNumThreads(1)
    if way == "ours + detector":
        _detector()
    detector = OnnxDetector(onnx, ClipsConfig().people.detector.max_people) if onnx else None
    started, used = time.perf_counter(), time.process_time()
    counts = with_onnx(path, onnx, detector) if onnx and detector else WAYS[way](path)
    seconds = {"seconds": time.perf_counter() - started, "cpu": time.process_time() - used}
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(counts | seconds | {"MiB": most}))


def _answer(command: list[str]) -> dict:
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env=os.environ | {"GLOG_minloglevel": "3"}
    )
    return json.loads(done.stdout.splitlines()[-1])


def _show(results: dict[str, list[dict]]) -> None:
    table = Table("way", "s", "s of all cores", "/ bare", "/ bare, cores", "frames", "clips", "MB", "MiB at most",
                  title="clips of one video", title_justify="left")  # fmt: skip
    for way, rounds in results.items():
        middle = {name: statistics.median(r[name] for r in rounds) for name in rounds[0]}
        ratios = [
            statistics.median(r[name] / b[name] for r, b in zip(rounds, results["bare"], strict=True))
            for name in ("seconds", "cpu")
        ]
        table.add_row(way, f"{middle['seconds']:.2f}", f"{middle['cpu']:.2f}", *(f"{r:.2f}" for r in ratios),
                      f"{middle['frames']:.0f}", f"{middle['clips']:.0f}", f"{middle['bytes'] / 1e6:.1f}",
                      f"{middle['MiB']:.0f}")  # fmt: skip
    console = Console(width=120)
    console.print(table)
    for way in (way for way in results if way.startswith("ours + ")):
        detector = [a["cpu"] - b["cpu"] for a, b in zip(results[way], results["ours"], strict=True)]
        own = statistics.median(d / b["cpu"] for d, b in zip(detector, results["bare"], strict=True))
        console.print(f"{way}: the detector's own time: {statistics.median(detector):.2f} s of all cores")
        console.print(f"{way}: detector / bare: {own:.2f}, limit {DETECTOR_LIMIT} on a clip of one person")
    ratio = statistics.median(
        a["seconds"] / b["seconds"] for a, b in zip(results["ours"], results["bare"], strict=True)
    )
    console.print(f"ours / bare: {ratio:.2f}, limit {LIMIT}: {'within' if ratio <= LIMIT else 'above'}")
    if "data-juicer" not in results:
        console.print("Data-Juicer: not compared; give --data-juicer the interpreter that has it")


if __name__ == "__main__":
    main()
