"""Clips of an evaluation on disk: OUT/NAME/CASE.mp4 for every system, and the ground truth.

OUT/reference/CASE.png, OUT/driver/CASE.mp4, OUT/truth/CASE.mp4 and OUT/cases.json are also the inputs with which other
software can generate clips for the same cases.
"""

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from opendimo.model.batch import Driving
from opendimo.model.dimo import sees_cameras
from opendimo.model.encoder.config import EncoderConfig
from opendimo.storage_schemas.ids import as_stored, sha256_file, stable_id
from opendimo.storage_schemas.lake.files import read_json, write_bytes, write_json
from opendimo.storage_schemas.media.video import decode, encode, probe, resize
from opendimo.training.driving import read_drivings
from opendimo.training.evaluation.cases import Case
from opendimo.training.evaluation.config import BASELINE, EvaluationConfig
from opendimo.training.evaluation.known import Known
from opendimo.training.generate import Placing, Sampling, load_pipeline, sample
from opendimo.training.pipeline_folder import find_pipeline
from opendimo.training.release import Release

Frames = NDArray[np.uint8]
OnDone = Callable[[], None]


def write_inputs(release: Release, cases: Sequence[Case], out: Path, on_done: OnDone = lambda: None) -> None:
    """Write reference, driver and truth of every case, and the baseline clip that repeats the reference.

    Skips cases whose files exist.
    """
    known = Known(release)
    for case in cases:
        name = case.case_id
        if not (out / BASELINE / f"{name}.mp4").exists():  # the last file written for a case
            target = known.frames(case.target)
            buffer = io.BytesIO()
            Image.fromarray(target[0]).save(buffer, "PNG")
            write_bytes(out / "reference" / f"{name}.png", buffer.getvalue())
            write_bytes(out / "driver" / f"{name}.mp4", encode(known.frames(case.driver), case.fps))
            if case.has_truth:
                write_bytes(out / "truth" / f"{name}.mp4", encode(target, case.fps))
            still = np.repeat(target[:1], case.pair.num_frames, axis=0)
            write_bytes(out / BASELINE / f"{name}.mp4", encode(still, case.fps))
        on_done()
    write_json(out / "cases.json", [case.facts() for case in cases])


def check_checkpoint(checkpoint: Path, name: str, out: Path, release: Release, config: EvaluationConfig) -> None:
    """Record model and settings in OUT/NAME. Raises `ValueError` if it holds clips of another model or settings."""
    identity = _identity(find_pipeline(checkpoint), release, config)
    record = out / name / "made_of.json"
    before = read_json(record)
    if before not in (None, identity):
        changed = ", ".join(sorted(key for key in identity if before.get(key) != identity[key]))
        raise ValueError(
            f"{out / name} holds clips made with another {changed}: use another --out, or remove the folder"
        )
    write_json(record, identity)


def make_clips(
    release: Release,
    checkpoint: Path,
    cases: Sequence[Case],
    folder: Path,
    config: EvaluationConfig,
    placing: Placing | None = None,
    on_done: OnDone = lambda: None,
) -> None:
    """Generate CASE.mp4 in `folder` for every case that has no clip yet.

    Skips cases that lack what the model reads: pose labels of the driver, or cameras of both views. `on_done` is called
    once for every case, including existing and skipped ones.
    """
    missing = [case for case in cases if not (folder / f"{case.case_id}.mp4").exists()]
    for _ in range(len(cases) - len(missing)):
        on_done()
    if not missing:
        return
    pipeline = load_pipeline(find_pipeline(checkpoint), placing or Placing())
    encoder = EncoderConfig(**pipeline.control.config.get("encoder", {}))
    cameras = sees_cameras(pipeline.transformer, pipeline.control)
    sampling = Sampling(config.steps, config.guidance, config.motion_guidance)
    with ThreadPoolExecutor(1) as threads:
        for case in missing:
            if case.pair.pose_id is not None or not pipeline.control.reads_poses:
                size = case.target.size
                [driving] = read_drivings(release, [case.pair], encoder, size, threads, cameras=cameras)
                if cameras and not driving.target_ok.all():
                    on_done()
                    continue
                reference = Image.open(folder.parent / "reference" / f"{case.case_id}.png")
                seed = int(stable_id("seed", config.seed, case.case_id)[:8], 16)
                window: dict[str, Any] = {"num_frames": case.pair.num_frames, "width": size[0], "height": size[1]}
                frames, _ = sample(
                    pipeline, reference, _as_batch(driving), case.prompt, sampling, seed=seed, fps=case.fps, **window
                )
                write_bytes(folder / f"{case.case_id}.mp4", encode(frames, case.fps))
            on_done()


class Found(NamedTuple):
    """A clip converted to the size and length of its case; `note` lists the conversions."""

    frames: Frames
    note: str


def read_clip(path: Path, num_frames: int, size: tuple[int, int]) -> Found | None:
    """Read the clip of a case, resized to `size` and cut to `num_frames`; None if the file does not exist.

    Raises `ValueError` if it is not a video, is too short, or has another aspect ratio.
    """
    if not path.exists():
        return None
    try:
        facts = probe(path)
        frames = decode(path, stop=num_frames)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path}: {error}; {num_frames} frames are needed") from error
    width, height = frames.shape[2], frames.shape[1]
    if abs(width * size[1] - height * size[0]) > 0.05 * height * size[0]:
        raise ValueError(f"{path} is {width} x {height}, another aspect ratio than {size[0]} x {size[1]}: crop it")
    notes = [f"resized from {width} x {height}"] if (width, height) != size else []
    notes += [f"cut from {facts.frames} frames"] if facts.frames and facts.frames > num_frames else []
    return Found(np.stack([resize(frame, size) for frame in frames]), ", ".join(notes))


def _identity(pipeline: Path, release: Release, config: EvaluationConfig) -> dict[str, object]:
    """Return everything that determines the clips of a checkpoint: trained weights, release, and sampling settings."""
    weights = [
        sha256_file(file)
        for part in ("control", "transformer")
        for file in sorted((pipeline / part).glob("*.safetensors"))
    ]
    sampling = {name: asdict(config)[name] for name in ("seed", "steps", "guidance", "motion_guidance", "protocol")}
    identity = {"weights": weights, "release": [release.id, release.sha256], **sampling}
    return dict(as_stored(identity))


def _as_batch(driving: Driving) -> Driving:
    """Convert one sample of `read_drivings` [T, ...] to a batch [1, T, ...] with images in [0, 1]."""
    batch = driving.map(lambda x: x[None])
    return replace(batch, body=batch.body.float() / 255, hands=batch.hands.float() / 255)
