"""Generate one video, with a JSON record of its inputs beside it."""

import json
from dataclasses import asdict
from pathlib import Path

from opendimo.dags.progress import silence_libraries, step
from opendimo.pipelines.generation.driving import find_person, read_video
from opendimo.storage_schemas.ids import as_stored, sha256_file
from opendimo.storage_schemas.lake.files import write_json
from opendimo.training.export import read_facts
from opendimo.training.generate import Placing, Sampling, generate, open_image
from opendimo.training.pipeline_folder import find_pipeline


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
) -> Path:
    """Generate a video and write the MP4 `out` and, beside it, a JSON record of the inputs; return `out`.

    If both exist with the same inputs, nothing is generated. `truth`: ground-truth video to show beside the result;
    only recorded. `start`: second of the driving video at which its motion begins; None = where a person is first seen.
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
    }
    record = out.with_suffix(".json")
    if out.exists() and record.exists() and json.loads(record.read_text()) == as_stored(request):
        return out
    silence_libraries()
    out.parent.mkdir(parents=True, exist_ok=True)
    with step("sample", sampling.num_inference_steps) as bar:
        generate(
            pipeline,
            reference,
            driving,
            prompt,
            out,
            sampling,
            placing=placing,
            seed=seed,
            start=start,
            on_step=bar.advance,
            find_person=find_person,
            read_video=read_video,
        )
    write_json(record, request)
    return out
