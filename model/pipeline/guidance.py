"""Classifier-free guidance over text and motion separately.

v = v_full + (s_text - 1) (v_full - v_without_text) + (s_motion - 1) (v_full - v_without_motion)

A scale of 1 disables its guidance term, and the corresponding unconditional evaluation is skipped.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from opendimo.model.backbones.interface import Generator
from opendimo.model.signal import MotionTokens, Signal


class GuidanceBranch(NamedTuple):
    """Inputs of one batch of n guidance evaluations, and the weights of their velocities.

    The weights of all batches of a step sum to 1.
    """

    text: Tensor  # [n, m, D]
    text_ok: Tensor  # [n, m] bool
    signal: Signal
    weights: tuple[float, ...]


def evaluations(
    text: Tensor,
    no_text: Tensor,
    control_signal: Callable[[bool], Signal],
    *,
    text_scale: float,
    motion_scale: float,
    in_sequence: bool,
) -> list[GuidanceBranch]:
    """Return the evaluations of a step, in one batch or, with `in_sequence`, one by one, which takes less memory.

    `text`, `no_text` [m, D] and [m', D]: embeddings of the prompt and of the negative prompt. `control_signal(present)`
    returns the signal of one sample with or without motion. It is called once, or, if the control adds to the video
    tokens and both are needed, once with and once without motion.
    """
    passes = [
        (text, True, text_scale + motion_scale - 1),
        (no_text, True, 1 - text_scale),
        (text, False, 1 - motion_scale),
    ]
    passes = [p for p in passes if p[2] != 0]
    signals = _signals(control_signal, {p[1] for p in passes})
    branches = [
        GuidanceBranch(
            embedding[None], torch.ones_like(embedding[None, :, 0], dtype=torch.bool), signals[present], (weight,)
        )
        for embedding, present, weight in passes
    ]
    return branches if in_sequence else [_batched(branches)]


def guided_velocity(
    generator: Generator, latents: Tensor, timestep: Tensor, reference: Tensor, branches: list[GuidanceBranch]
) -> Tensor:
    """Return the guided velocity [1, C, L, h, w] float32 of latents [1, C, L, h, w] at a `timestep` [] in 0..1000."""
    total = torch.zeros_like(latents, dtype=torch.float32)
    for text, text_ok, signal, weights in branches:
        n = len(weights)
        velocities = generator(
            latents.expand(n, -1, -1, -1, -1),
            timestep.expand(n),
            text,
            text_ok,
            signal,
            reference.expand(n, -1, -1, -1, -1),
        )  # [n, C, L, h, w]
        for weight, velocity in zip(weights, velocities.float(), strict=True):
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


def _batched(branches: list[GuidanceBranch]) -> GuidanceBranch:
    """Merge single evaluations into one batch; texts are padded to the longest."""
    return GuidanceBranch(
        pad_sequence([branch.text[0] for branch in branches], batch_first=True),
        pad_sequence([branch.text_ok[0] for branch in branches], batch_first=True),
        _joined([branch.signal for branch in branches]),
        tuple(weight for branch in branches for weight in branch.weights),
    )


def _joined(signals: list[Signal]) -> Signal:
    """Concatenate the generator inputs (motion and additions) of single samples to a batch."""
    motions = [s.motion for s in signals if s.motion is not None]
    motion = None
    if motions:
        motion = MotionTokens(torch.cat([m.tokens for m in motions]), torch.cat([m.present for m in motions]))
    additions = tuple(torch.cat(parts) for parts in zip(*(s.additions for s in signals), strict=True))
    return Signal(motion, additions)
