"""`dimo generate`: generate one video."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from opendimo.dags.options import Guidance, MotionGuidance, SamplingSteps
from opendimo.model.sampling import GUIDANCE, MOTION_GUIDANCE, STEPS


class Precision(StrEnum):
    """Floating-point precision; the same values as `training.generate.Precision`."""

    bfloat16 = "bfloat16"
    float32 = "float32"


def generate(
    checkpoint: Annotated[Path, typer.Option(exists=True, help="Folder of a training run or a saved pipeline.")],
    reference: Annotated[Path, typer.Option(exists=True, help="Reference image of the person to animate.")],
    driving: Annotated[Path, typer.Option(exists=True, help="Driving video that provides the motion.")],
    out: Annotated[Path, typer.Option(help="Output file; must end in .mp4.")],
    prompt: Annotated[str, typer.Option(help="Text prompt: the content and the camera motion.")] = "",
    frames: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of frames, 4k + 1; more than in training are generated in windows. Default: as in training.",
        ),
    ] = None,
    start: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Second of the driving video at which its motion begins. Default: where a person is first seen.",
        ),
    ] = None,
    steps: SamplingSteps = STEPS,
    guidance: Guidance = GUIDANCE,
    motion_guidance: MotionGuidance = MOTION_GUIDANCE,
    guidance_in_sequence: Annotated[
        bool,
        typer.Option(
            "--guidance-in-sequence",
            help="Run the guidance passes one after another instead of as one batch: slower, less memory.",
        ),
    ] = False,
    dtype: Annotated[
        Precision | None,
        typer.Option(
            help="Precision of all components but the VAE (always float32). Default: bfloat16 on GPU, float32 on CPU."
        ),
    ] = None,
    offload: Annotated[
        bool,
        typer.Option("--offload", help="Move each component to the GPU only while it runs: slower, less memory."),
    ] = False,
    cameras: Annotated[
        str | None,
        typer.Option(
            help="Several views at once, of a model that reads cameras: orbit:N around the person, or a JSON file "
            "of cameras. OUT then shows them side by side; each is also written to OUT-0.mp4 and so on."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed of the noise.")] = 0,
) -> None:
    """Generate a video of the person in the reference image with the motion of the driving video.

    Example: dimo generate --checkpoint runs/1 --reference me.png --driving dance.mp4 --out me.mp4
    --prompt "The camera arcs left."

    Example, longer than in training: dimo generate --checkpoint runs/1 --reference me.png --driving dance.mp4
    --out long.mp4 --frames 361

    Example, four views around the person: dimo generate --checkpoint runs/hvg --reference me.png --driving dance.mp4
    --out views.mp4 --cameras orbit:4
    """
    from opendimo.training.pipeline_folder import find_pipeline

    # wrong paths are errors before the imports below, which take seconds
    if out.suffix.lower() != ".mp4":
        raise ValueError(f"--out must end in .mp4, got {out}")
    pipeline = find_pipeline(checkpoint)
    if cameras is not None:
        from opendimo.model.multiview.paths import camera_paths

        camera_paths(cameras)

    from opendimo.dags.generate import CONSISTENCY, animate
    from opendimo.dags.progress import display
    from opendimo.storage_schemas.lake.files import read_json
    from opendimo.training.generate import Placing, Sampling

    sampling = Sampling(steps, guidance, motion_guidance, frames, guidance_in_sequence)
    placing = Placing(dtype.value, offload) if dtype else Placing(offload=offload)
    with display():
        made = animate(pipeline, reference, driving, prompt, out, sampling, seed, placing, start=start, cameras=cameras)
    print(made)
    if cameras is not None:
        print(read_json(made.with_suffix(".json"))[CONSISTENCY])
