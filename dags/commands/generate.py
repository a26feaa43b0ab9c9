"""The command that makes a video."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from opendimo.model.sampling import GUIDANCE, MOTION_GUIDANCE, STEPS


class Precision(StrEnum):
    """As `training.generate.Precision`."""

    bfloat16 = "bfloat16"
    float32 = "float32"


def generate(
    checkpoint: Annotated[Path, typer.Option(exists=True, help="Folder of a trained run, or of a saved pipeline.")],
    reference: Annotated[Path, typer.Option(exists=True, help="Image of the person to animate.")],
    driving: Annotated[Path, typer.Option(exists=True, help="Video whose motion is followed.")],
    out: Annotated[Path, typer.Option(help="The MP4 to write.")],
    prompt: Annotated[str, typer.Option(help="What is seen, and how the camera moves.")] = "",
    frames: Annotated[
        int | None, typer.Option(min=1, help="Frames to make, 4 k + 1; more than in training are made in windows.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Sampling steps.")] = STEPS,
    guidance: Annotated[
        float, typer.Option(help="How far to go beyond the answer without text; 1: no further.")
    ] = GUIDANCE,
    motion_guidance: Annotated[float, typer.Option(help="The same for the answer without motion.")] = MOTION_GUIDANCE,
    guidance_in_sequence: Annotated[
        bool, typer.Option("--guidance-in-sequence", help="Compare the answers one by one: slower, in less memory.")
    ] = False,
    dtype: Annotated[
        Precision | None, typer.Option(help="Of all but the VAE; by default bfloat16 on a GPU, float32 without.")
    ] = None,
    offload: Annotated[
        bool, typer.Option("--offload", help="Keep each part on the GPU only while it runs: slower, in less memory.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the noise.")] = 0,
) -> None:
    """Animate a person with the motion of a video.

    Example: dimo generate --checkpoint runs/1 --reference me.png --driving dance.mp4 --out me.mp4
    --prompt "The camera arcs left."

    Example, longer than in training: dimo generate --checkpoint runs/1 --reference me.png --driving dance.mp4
    --out long.mp4 --frames 361
    """
    from opendimo.dags.generate import animate
    from opendimo.dags.progress import display
    from opendimo.training.generate import Placing, Sampling

    sampling = Sampling(steps, guidance, motion_guidance, frames, guidance_in_sequence)
    placing = Placing(dtype.value, offload) if dtype else Placing(offload=offload)
    with display():
        made = animate(checkpoint, reference, driving, prompt, out, sampling, seed, placing)
    print(made)
