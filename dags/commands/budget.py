"""`dimo plan train`: what a training run at full size would take, before there are weights, data or a GPU."""

from typing import Annotated

import typer

from opendimo.dags.options import Json
from opendimo.dags.variants import VARIANTS

SHOWN = [1, 8]


def train(
    preset: Annotated[str, typer.Option(help="wan2.2-ti2v-5b or hunyuanvideo-1.5.")] = "wan2.2-ti2v-5b",
    variant: Annotated[str, typer.Option(help=f"Ablation or rival: {VARIANTS}.")] = "full",
    encoder: Annotated[str | None, typer.Option(help="Motion encoder: tiny, base or paper; else the preset's.")] = None,
    gpus: Annotated[list[int], typer.Option(min=1, help="GPUs that share the state; may be given again.")] = SHOWN,
    samples: Annotated[int, typer.Option(min=1, help="Samples on a GPU at a time.")] = 1,
    tflops: Annotated[float, typer.Option(min=1, help="What a GPU is taken to do, 10^12 operations a second.")] = 250.0,
    json_: Json = False,
) -> None:
    """Show parameters, operations and memory of a training run at full size.

    Counted on the real classes without weights; the time is arithmetic from --tflops, nothing is measured here.

    Example: dimo plan train --preset hunyuanvideo-1.5 --gpus 8 --gpus 64
    """
    from opendimo.dags.show import as_json, duration, table
    from opendimo.training.budget import budget
    from opendimo.training.config import preset as named
    from opendimo.training.variants import with_variant

    config = with_variant(named(preset, preset, encoder), variant)
    found = budget(config)
    memory = {n: found.memory(n, samples) for n in gpus}
    operations = found.flops and found.flops * config.batch_size * config.schedule.steps
    seconds = {n: operations and operations / (n * tflops * 1e12) for n in gpus}
    if json_:
        return as_json(vars(found) | {"parameters": found.parameters, "memory": memory, "seconds": seconds})
    frames, height, width = found.video
    parts = [("base model", found.base), ("motion attention", found.motion), ("control", found.control)]
    rows = [(name, f"{count / 1e9:.3f} B") for name, count in [*parts, ("geometry head", found.head)]]
    table(
        f"{preset}, {variant}: parameters", ("part", "parameters"), [*rows, ("all", f"{found.parameters / 1e9:.3f} B")]
    )
    plain, all_ = (None if x is None else f"{x / 1e15:.3f}" for x in (found.base_flops, found.flops))
    table(
        f"A step of one sample: {frames} frames of {height} x {width}, {found.tokens} tokens with the reference",
        ("10^15 operations, base model", "all", "activations, GiB"),
        [(plain, all_ or "depends on what is drawn", f"{found.activation_bytes / 2**30:.1f}")],
    )
    return table(
        f"{config.schedule.steps} steps of {config.batch_size} samples, {samples} a GPU at a time, {tflops:g} TFLOP/s",
        ("GPUs", "GiB on each", "time"),
        [(n, f"{memory[n] / 2**30:.0f}", duration(seconds[n])) for n in gpus],
    )
