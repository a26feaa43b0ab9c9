"""Generation on request: find the person in the driving video, then sample."""

import json
from pathlib import Path

from pipelines.driving import read_driving
from storage_schemas.files import write_json
from training.export import read_facts
from training.generate import Driver, find_pipeline
from training.generate import generate as sample


def animate(
    checkpoint: Path,
    reference: Path,
    driving: Path,
    prompt: str,
    out: Path,
    *,
    steps: int,
    guidance: float,
    motion_guidance: float,
    seed: int,
) -> Path:
    """Write the MP4 and, beside it, a JSON file that says what it was made of; the same request is not made again."""
    pipeline = find_pipeline(checkpoint)
    request = {
        "pipeline": str(pipeline),
        "facts": read_facts(pipeline),
        "reference": str(reference),
        "driving": str(driving),
        "prompt": prompt,
        "settings": [steps, guidance, motion_guidance, seed],
    }
    record = out.with_suffix(".json")
    if out.exists() and record.exists() and json.loads(record.read_text()) == json.loads(json.dumps(request)):
        return out
    window = request["facts"]["window"]
    seen = read_driving(driving, (window["num_frames"] - 1) * window["frame_step"] + 1)
    out.parent.mkdir(parents=True, exist_ok=True)
    sample(
        pipeline,
        reference,
        Driver(seen.frames, seen.track, seen.joints_2d, seen.hand_valid),
        prompt,
        out,
        steps=steps,
        guidance_scale=guidance,
        motion_guidance_scale=motion_guidance,
        seed=seed,
    )
    write_json(record, request)
    return out
