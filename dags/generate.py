"""Generate one video, with a JSON record of its inputs beside it."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from opendimo.dags.progress import silence_libraries, step
from opendimo.model.multiview.paths import camera_paths
from opendimo.pipelines.generation.consistency import view_consistency
from opendimo.pipelines.generation.driving import find_person, read_video
from opendimo.storage_schemas.ids import as_stored, sha256_file
from opendimo.storage_schemas.lake.files import read_json, write_json
from opendimo.storage_schemas.media.video import encode
from opendimo.training.export import read_facts
from opendimo.training.generate import Placing, Sampling, Views, generate, generate_views, open_image
from opendimo.training.pipeline_folder import find_pipeline

CONSISTENCY = "consistency"
"""Key of the record that says how far several views agree."""


def animate(
    checkpoint: Path,
    reference: Path,
    driving: Path,
    prompt: str,
    out: Path,
    sampling: Sampling,
    seed: int = 0,
    placing: Placing | None = None,
    truth: Path | None = None,
    start: float | None = None,
    cameras: str | None = None,
) -> Path:
    """Generate a video and write the MP4 `out` and, beside it, a JSON record of the inputs; return `out`.

    If both exist with the same inputs, nothing is generated. `truth`: ground-truth video to show beside the result;
    only recorded. `start`: second of the driving video at which its motion begins; None = where a person is first seen.
    `cameras`: what `camera_paths` reads; `out` then shows all views side by side, each is also written to a file of its
    own, STEM-0.mp4 and so on, and the record holds their consistency. Raises the `ValueError` of `camera_paths`.
    """
    placing = placing or Placing()
    open_image(reference)
    pipeline = find_pipeline(checkpoint)
    request = {
        "pipeline": str(pipeline.absolute()),
        "facts": read_facts(pipeline),
        "reference": str(reference.absolute()),
        "driving": str(driving.absolute()),
        "sha256": [sha256_file(reference), sha256_file(driving)],
        "prompt": prompt,
        "sampling": asdict(sampling),
        "precision": placing.precision,
        "seed": seed,
        **({} if start is None else {"start": start}),
        **({"truth": str(truth.absolute())} if truth else {}),
        **({"cameras": _described(cameras)} if cameras else {}),
    }
    paths = camera_paths(cameras) if cameras else None
    record = out.with_suffix(".json")
    written = read_json(record) or {}
    if out.exists() and {k: v for k, v in written.items() if k != CONSISTENCY} == as_stored(request):
        return out
    silence_libraries()
    out.parent.mkdir(parents=True, exist_ok=True)
    inputs: dict[str, Any] = {
        "placing": placing,
        "seed": seed,
        "start": start,
        "find_person": find_person,
        "read_video": read_video,
    }
    found = dict[str, str]()
    with step("sample", sampling.num_inference_steps) as bar:
        if paths is None:
            generate(pipeline, reference, driving, prompt, out, sampling, on_step=bar.advance, **inputs)
        else:
            views = generate_views(pipeline, reference, driving, paths, prompt, sampling, on_step=bar.advance, **inputs)
            _write(views, out)
            found = {CONSISTENCY: str(view_consistency(views.frames, views.fps, views.cameras, views.K))}
    write_json(record, request | found)
    return out


def _described(cameras: str) -> str:
    """Return the cameras as they enter the record: a file by its content."""
    path = Path(cameras)
    return f"{path.absolute()} {sha256_file(path)}" if path.is_file() else cameras


def _write(views: Views, out: Path) -> None:
    """Write each view to a file of its own, and all side by side to `out`."""
    for number, frames in enumerate(views.frames):
        (out.parent / f"{out.stem}-{number}.mp4").write_bytes(encode(frames, views.fps))
    out.write_bytes(encode(np.concatenate(list(views.frames), axis=2), views.fps))
