"""Clips of an evaluation on disk: OUT/NAME/CASE.mp4 of every system, and what they are compared with.

OUT/reference/CASE.png, OUT/driver/CASE.mp4, OUT/truth/CASE.mp4 and OUT/cases.json are also what another program needs
to make clips of its own for the same cases.
"""

import io
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from opendimo.model.batch import Driving
from opendimo.model.encoder.config import EncoderConfig
from opendimo.storage_schemas.ids import sha256_file, stable_id
from opendimo.storage_schemas.lake.files import read_json, write_bytes, write_json
from opendimo.storage_schemas.media.video import decode, encode, probe, resize
from opendimo.training.driving import read_drivings
from opendimo.training.evaluation.cases import Case
from opendimo.training.evaluation.config import BASELINE, EvaluationConfig
from opendimo.training.evaluation.known import Known
from opendimo.training.generate import Placing, Sampling, find_pipeline, load_pipeline, sample
from opendimo.training.release import Release

Frames = NDArray[np.uint8]
OnDone = Callable[[], None]


def write_inputs(release: Release, cases: Sequence[Case], out: Path, on_done: OnDone = lambda: None) -> None:
    """Write reference, driver and truth of every case, and the clip that repeats the reference; what is there stays."""
    known = Known(release)
    for case in cases:
        name = case.case_id
        if not (out / BASELINE / f"{name}.mp4").exists():  # the last that is written
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
    """Claim OUT/NAME for this model and these settings. Raises `ValueError` where it holds clips of others."""
    identity = _identity(find_pipeline(checkpoint), release, config)
    record = out / name / "made_of.json"
    before = read_json(record)
    if before not in (None, identity):
        changed = ", ".join(sorted(key for key in identity if before.get(key) != identity[key]))
        raise ValueError(f"{out / name} holds clips made with another {changed}: use another --out, or remove it")
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
    """Write CASE.mp4 into `folder` for every case; clips that are there are not made again. `on_done` is called for
    each that is there or made, or that the model's control cannot be told of: it reads pose labels, and the driver has
    none."""
    missing = [case for case in cases if not (folder / f"{case.case_id}.mp4").exists()]
    for _ in range(len(cases) - len(missing)):
        on_done()
    if not missing:
        return
    pipeline = load_pipeline(find_pipeline(checkpoint), placing or Placing())
    encoder = EncoderConfig(**pipeline.control.config.get("encoder", {}))
    sampling = Sampling(config.steps, config.guidance, config.motion_guidance)
    with ThreadPoolExecutor(1) as threads:
        for case in missing:
            if case.pair.pose_id is not None or not pipeline.control.reads_poses:
                [driving] = read_drivings(release, [case.pair], encoder, case.target.size, threads)
                reference = Image.open(folder.parent / "reference" / f"{case.case_id}.png")
                seed = int(stable_id("seed", config.seed, case.case_id)[:8], 16)
                width, height = case.target.size
                how: dict[str, Any] = {"num_frames": case.pair.num_frames, "width": width, "height": height}
                frames, _ = sample(
                    pipeline, reference, _as_batch(driving), case.prompt, sampling, seed=seed, fps=case.fps, **how
                )
                write_bytes(folder / f"{case.case_id}.mp4", encode(frames, case.fps))
            on_done()


class Found(NamedTuple):
    """A clip as it is compared: frames at the size and length of the case, and what had to be changed for that."""

    frames: Frames
    note: str


def read_clip(path: Path, num_frames: int, size: tuple[int, int]) -> Found | None:
    """A clip of a case; None where there is none. Another size is resized, and said; longer clips are cut.

    Raises `ValueError` for what is no video, is too short, or has another aspect ratio.
    """
    if not path.exists():
        return None
    try:
        facts = probe(path)
        frames = decode(path, stop=num_frames)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path}: {error}; {num_frames} frames are needed") from error
    here = (frames.shape[2], frames.shape[1])
    if abs(here[0] * size[1] - here[1] * size[0]) > 0.05 * here[1] * size[0]:
        raise ValueError(f"{path} is {here[0]} x {here[1]}, which has not the shape of {size[0]} x {size[1]}: crop it")
    notes = [f"resized from {here[0]} x {here[1]}"] if here != size else []
    notes += [f"cut from {facts.frames} frames"] if facts.frames and facts.frames > num_frames else []
    return Found(np.stack([resize(frame, size) for frame in frames]), ", ".join(notes))


def _identity(pipeline: Path, release: Release, config: EvaluationConfig) -> dict[str, object]:
    """What decides the clips of a checkpoint: the trained parts, what it is given, and how it is sampled."""
    weights = [
        sha256_file(file)
        for part in ("control", "transformer")
        for file in sorted((pipeline / part).glob("*.safetensors"))
    ]
    sampling = {name: asdict(config)[name] for name in ("seed", "steps", "guidance", "motion_guidance", "protocol")}
    identity = {"weights": weights, "release": [release.id, release.sha256], **sampling}
    return dict(json.loads(json.dumps(identity)))


def _as_batch(driving: Driving) -> Driving:
    """One sample of `read_drivings` [T, ...] as a batch [1, T, ...], pictures in [0, 1]."""
    batch = driving.map(lambda x: x[None])
    return replace(batch, body=batch.body.float() / 255, hands=batch.hands.float() / 255)
