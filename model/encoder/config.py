"""Shapes of the motion encoder, and strengths of the augmentation in front of it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EncoderConfig:
    """The paper gives the 5 tokens only; the defaults are a ViT-B [ours].

    `hands=False` leaves the hands out ("w/o hand encoder"). `dim`: of the motion tokens. `frames_per_chunk`: how
    many body frames are encoded at a time, and hands of as many pixels; it bounds the memory and changes no result.
    """

    body_size: int = 256
    hand_size: int = 128
    body_patch: int = 16
    hand_patch: int = 16
    width: int = 768
    depth: int = 12
    heads: int = 12
    body_tokens: int = 5
    hand_tokens: int = 5
    dim: int = 768
    hands: bool = True
    frames_per_chunk: int = 32


ENCODERS = {
    "tiny": EncoderConfig(body_size=32, hand_size=16, body_patch=4, hand_patch=8, width=64, depth=2, heads=4, dim=64),
    "base": EncoderConfig(),
    "paper": EncoderConfig(width=1024, depth=24, heads=16, dim=1024),
}
"""`tiny`: a CPU. `base`: ViT-B. `paper`: TiTok-L, the shape of IM-Animation's encoder by the same group."""


@dataclass(frozen=True)
class AugmentConfig:
    """Strengths of `model.encoder.augment`. `perspective`: how far a corner moves at most, as a share of half a side.
    `per_frame`: every frame its own warp rather than one a clip and a little jitter. `jitter`: how far factors of
    brightness, contrast and saturation are from 1 at most; hues turn by half that share of a turn."""

    perspective: float = 0.3
    jitter: float = 0.3
    per_frame: bool = False
