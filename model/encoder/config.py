"""Configs of the motion encoder and of the augmentation of its input."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EncoderConfig:
    """Shapes of the motion encoder. The paper only gives the 5 tokens; the defaults are a ViT-B [ours].

    `hands=False` disables the hand encoder ("w/o hand encoder"). `dim`: width of the motion tokens.
    `frames_per_chunk`: number of body frames encoded at once, and of hand crops with as many pixels; it limits memory
    use and does not change results.
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
"""`tiny`: for a CPU. `base`: ViT-B. `paper`: TiTok-L, the shape of IM-Animation's encoder by the same group."""


@dataclass(frozen=True)
class AugmentConfig:
    """Strengths of `model.encoder.augment`.

    `perspective`: maximum displacement of a corner, as a share of half a side. `jitter`: maximum deviation from 1 of
    the factors of brightness, contrast and saturation; hues rotate by at most half that share of a full turn.
    `per_frame`: independent warps per frame instead of one warp per clip with small variations.
    """

    perspective: float = 0.3
    jitter: float = 0.3
    per_frame: bool = False
