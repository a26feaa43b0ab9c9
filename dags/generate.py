"""Generation on request: find the person in the driving video, then sample."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from dags.progress import silence_libraries
from pipelines.driving import read_driving
from storage_schemas.files import write_json
from storage_schemas.ids import sha256_file
from training.export import read_facts
from training.generate import Driver, find_pipeline
from training.generate import generate as sample


@dataclass(frozen=True)
class Sampling:
    """How to sample; see `DiMoPipeline`."""

    steps: int = 30
    guidance: float = 3.0
    motion_guidance: float = 2.0
    seed: int = 0


def animate(checkpoint: Path, reference: Path, driving: Path, prompt: str, out: Path, sampling: Sampling) -> Path:
    """Write the MP4 and, beside it, a JSON file that says what it was made of; the same request is not made again."""
    if out.suffix.lower() != ".mp4":
        raise ValueError(f"--out must end in .mp4, got {out}")
    _check_image(reference)
    pipeline = find_pipeline(checkpoint)
    facts = read_facts(pipeline)
    request = {
        "pipeline": str(pipeline.absolute()),
        "facts": facts,
        "reference": str(reference.absolute()),
        "driving": str(driving.absolute()),
        "sha256": [sha256_file(reference), sha256_file(driving)],
        "prompt": prompt,
        "sampling": asdict(sampling),
    }
    record = out.with_suffix(".json")
    if out.exists() and record.exists() and json.loads(record.read_text()) == json.loads(json.dumps(request)):
        return out
    window = facts["window"]
    seen = read_driving(driving, (window["num_frames"] - 1) * window["frame_step"] + 1)
    silence_libraries()
    out.parent.mkdir(parents=True, exist_ok=True)
    sample(
        pipeline,
        reference,
        Driver(seen.frames, seen.track, seen.joints_2d, seen.hand_valid),
        prompt,
        out,
        fps=seen.fps / window["frame_step"],
        steps=sampling.steps,
        guidance_scale=sampling.guidance,
        motion_guidance_scale=sampling.motion_guidance,
        seed=sampling.seed,
    )
    write_json(record, request)
    return out


def _check_image(path: Path) -> None:
    try:
        with Image.open(path) as image:
            image.verify()
    except UnidentifiedImageError:
        raise ValueError(f"{path}: not a readable image; give a PNG or JPEG of the person") from None
