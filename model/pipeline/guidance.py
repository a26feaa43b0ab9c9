"""Classifier-free guidance over text and motion separately.

v = v_full + (s_text - 1) (v_full - v_without_text) + (s_motion - 1) (v_full - v_without_motion)

A scale of 1 disables its guidance term, and the corresponding unconditional evaluation is skipped.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from opendimo.model.backbones.interface import Generator
from opendimo.model.pipeline.prompts import Prompts
from opendimo.model.signal import MotionTokens, Signal


class GuidanceBranch(NamedTuple):
    """Inputs of one batch of n guidance evaluations of V videos, and the weights of the n velocities.

    The weights of all batches of a step sum to 1.
    """

    text: Prompts  # of n V samples
    signal: Signal
    weights: tuple[float, ...]


def evaluations(
    text: Prompts,
    no_text: Prompts,
    control_signal: Callable[[bool], Signal],
    *,
    text_scale: float,
    motion_scale: float,
    in_sequence: bool,
) -> list[GuidanceBranch]:
    """Return the evaluations of a step, in one batch or, with `in_sequence`, one by one, which takes less memory.

    `text`, `no_text`: the prompts and the negative prompts. `control_signal(present)` returns the signal with or
    without motion, of one sample for all videos or one for each. It is called once, or, if the control adds to the
    video tokens and both are needed, once with and once without motion.
    """
    passes = [
        (text, True, text_scale + motion_scale - 1),
        (no_text, True, 1 - text_scale),
        (text, False, 1 - motion_scale),
    ]
    passes = [p for p in passes if p[2] != 0]
    signals = _signals(control_signal, {p[1] for p in passes})
    return [
        GuidanceBranch(
            _joined_prompts([prompts for prompts, _, _ in group]),
            _joined_signals([signals[present] for _, present, _ in group], len(text.embeds)),
            tuple(weight for _, _, weight in group),
        )
        for group in ([[p] for p in passes] if in_sequence else [passes])
    ]


def guided_velocity(
    generator: Generator,
    latents: Tensor,
    timestep: Tensor,
    reference: Tensor,
    branches: list[GuidanceBranch],
    attention_kwargs: dict[str, Any] | None = None,
) -> Tensor:
    """Return the guided velocity float32 of latents [V, C, L, h, w], in their shape.

    `timestep` [] in 0..1000, `reference` [1, C, 1, h, w]; `attention_kwargs` as in `Generator.forward`.
    """
    total = torch.zeros_like(latents, dtype=torch.float32)
    for text, signal, weights in branches:
        samples = len(text.embeds)
        velocities = generator(
            latents.repeat(len(weights), 1, 1, 1, 1),
            timestep.expand(samples),
            text.embeds,
            text.mask,
            signal,
            reference.expand(samples, -1, -1, -1, -1),
            attention_kwargs=attention_kwargs,
            return_dict=False,
        )[0]  # [n V, C, L, h, w]
        for weight, velocity in zip(weights, velocities.float().split(len(latents)), strict=True):
            total += weight * velocity
    return total


def _signals(control_signal: Callable[[bool], Signal], needed: set[bool]) -> dict[bool, Signal]:
    """Return the signals with (True) and without (False) motion that are needed.

    The generator replaces absent motion tokens by its learned null, whatever their values, so a control that only
    sends tokens is run once.
    """
    signals = {present: control_signal(present) for present in needed & {True} or needed}
    if needed > signals.keys():
        signals[False] = control_signal(False) if signals[True].additions else _without_motion(signals[True])
    return signals


def _without_motion(signal: Signal) -> Signal:
    motion = signal.motion
    return signal._replace(motion=motion and motion._replace(present=torch.zeros_like(motion.present)))


def _joined_prompts(prompts: list[Prompts]) -> Prompts:
    """Concatenate prompts to a batch; they are padded to the longest."""
    parts = zip(*prompts, strict=True)
    return Prompts(*(pad_sequence([row for part in kind for row in part], batch_first=True) for kind in parts))


def _joined_signals(signals: list[Signal], videos: int) -> Signal:
    """Concatenate the generator inputs of n signals, each of one sample for all V videos or one for each, to a batch
    of n V samples, those of a signal in a row."""
    motions = [s.motion for s in signals if s.motion is not None]
    rays = tuple(s.rays for s in signals if s.rays is not None)
    return Signal(
        MotionTokens(*(_for_videos(part, videos) for part in zip(*motions, strict=True))) if motions else None,
        tuple(_of_block(part, videos) for part in zip(*(s.additions for s in signals), strict=True)),
        scales=tuple(_of_block(part, videos) for part in zip(*(s.scales for s in signals), strict=True)),
        rays=_for_videos(rays, videos) if rays else None,
        views=signals[0].views,
    )


def _of_block(parts: tuple[Tensor | None, ...], videos: int) -> Tensor | None:
    """Return the parts `_for_videos`; None for a block without any."""
    given = tuple(part for part in parts if part is not None)
    return _for_videos(given, videos) if given else None


def _for_videos(parts: tuple[Tensor, ...], videos: int) -> Tensor:
    """Concatenate n parts [1 or V, ...] to [n V, ...]."""
    return torch.cat([part if len(part) == videos else part.repeat_interleave(videos, dim=0) for part in parts])
