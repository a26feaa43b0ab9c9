"""Classifier-free guidance over text and motion separately.

v = v_full + (s_text - 1) (v_full - v_without_text) + (s_motion - 1) (v_full - v_without_motion)

The scales are how far to go beyond the prediction without text and the one without motion. At 1 a scale goes no
further, and the evaluation without is not made.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from opendimo.model.backbones.interface import Generator
from opendimo.model.signal import MotionTokens, Signal


class Told(NamedTuple):
    """What n evaluations in a batch are told, and the weights of their velocities, which over all batches sum to 1."""

    text: Tensor  # [n, m, D]
    text_ok: Tensor  # [n, m] bool
    signal: Signal
    weights: tuple[float, ...]


def evaluations(
    text: Tensor,
    no_text: Tensor,
    hear: Callable[[bool], Signal],
    *,
    text_scale: float,
    motion_scale: float,
    in_sequence: bool,
) -> list[Told]:
    """The evaluations of a step in one batch, or `in_sequence`, each on its own, which takes the least memory.

    `text`, `no_text` [m, D] and [m', D]: embeddings of the prompt and of what to guide away from. `hear(present)` gives
    the signal of one sample with or without motion; it is called once, or once for each where it adds to video tokens.
    """
    passes = [
        (text, True, text_scale + motion_scale - 1),
        (no_text, True, 1 - text_scale),
        (text, False, 1 - motion_scale),
    ]
    passes = [p for p in passes if p[2] != 0]
    signals = _signals(hear, {p[1] for p in passes})
    told = [
        Told(words[None], torch.ones_like(words[None, :, 0], dtype=torch.bool), signals[present], (weight,))
        for words, present, weight in passes
    ]
    return told if in_sequence else [_batched(told)]


def guided_velocity(
    generator: Generator, latents: Tensor, timestep: Tensor, reference: Tensor, told: list[Told]
) -> Tensor:
    """Velocity [1, C, L, h, w] float32 of latents [1, C, L, h, w] at a `timestep` [] in 0..1000."""
    total = torch.zeros_like(latents, dtype=torch.float32)
    for text, text_ok, signal, weights in told:
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


def _signals(hear: Callable[[bool], Signal], wanted: set[bool]) -> dict[bool, Signal]:
    """The signals with (True) and without motion that are wanted. In place of absent motion tokens a generator has its
    learned null, whatever they are, so that a control that only sends tokens need not make them twice."""
    signals = {present: hear(present) for present in wanted & {True} or wanted}
    if wanted > signals.keys():
        signals[False] = hear(False) if signals[True].additions else _without_motion(signals[True])
    return signals


def _without_motion(signal: Signal) -> Signal:
    motion = signal.motion
    return signal._replace(motion=motion and motion._replace(present=torch.zeros_like(motion.present)))


def _batched(told: list[Told]) -> Told:
    """One batch of all; texts are padded to the longest."""
    return Told(
        pad_sequence([t.text[0] for t in told], batch_first=True),
        pad_sequence([t.text_ok[0] for t in told], batch_first=True),
        _joined([t.signal for t in told]),
        tuple(weight for t in told for weight in t.weights),
    )


def _joined(signals: list[Signal]) -> Signal:
    """The parts that a generator hears, of single samples -> of a batch."""
    motions = [s.motion for s in signals if s.motion is not None]
    motion = None
    if motions:
        motion = MotionTokens(torch.cat([m.tokens for m in motions]), torch.cat([m.present for m in motions]))
    additions = tuple(torch.cat(parts) for parts in zip(*(s.additions for s in signals), strict=True))
    return Signal(motion, additions)
