"""The command that makes a video."""

from pathlib import Path
from typing import Annotated

import typer


def generate(
    checkpoint: Annotated[Path, typer.Option(exists=True, help="Folder of a trained run, or of a saved pipeline.")],
    reference: Annotated[Path, typer.Option(exists=True, help="Image of the person to animate.")],
    driving: Annotated[Path, typer.Option(exists=True, help="Video whose motion is followed.")],
    out: Annotated[Path, typer.Option(help="The MP4 to write.")],
    prompt: Annotated[str, typer.Option(help="What is seen, and how the camera moves.")] = "",
    frames: Annotated[
        int | None, typer.Option(min=1, help="Frames to make, 4 k + 1; more than in training are made in windows.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Sampling steps.")] = 30,
    guidance: Annotated[float, typer.Option(help="How far to go beyond the answer without text; 1: no further.")] = 3.0,
    motion_guidance: Annotated[float, typer.Option(help="The same for the answer without motion.")] = 2.0,
    seed: Annotated[int, typer.Option(help="Seed of the noise.")] = 0,
) -> None:
    """Animate a person with the motion of a video.

    Example: dimo generate --checkpoint runs/1 --reference me.png --driving dance.mp4 --out me.mp4
    --prompt "The camera arcs left."

    Example, longer than in training: dimo generate --checkpoint runs/1 --reference me.png --driving dance.mp4
    --out long.mp4 --frames 361
    """
    from dags.generate import animate
    from training.generate import Sampling

    sampling = Sampling(steps, guidance, motion_guidance, frames)
    print(animate(checkpoint, reference, driving, prompt, out, sampling, seed))
