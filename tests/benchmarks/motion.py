"""One training step of the tiny 3DiMo, against the plain backbone on the same tokens."""

import tempfile
from pathlib import Path

import torch

from model.dimo import Batch, DiMo, DiMoConfig
from model.tiny import make_tiny_base
from tests.benchmarks.side_by_side import compare


def main() -> None:
    """Forward and backward of both."""
    with tempfile.TemporaryDirectory() as folder:
        dimo = DiMo.from_base(make_tiny_base(Path(folder) / "base"), DiMoConfig.tiny())
    batch = random_batch(dimo)
    noise, sigma = torch.randn_like(batch.target), torch.full((len(batch.target),), 0.5)
    keep = torch.zeros(len(batch.target), dtype=torch.bool)
    plain = type(dimo.transformer).__mro__[1].from_config(dimo.transformer.config)

    def ours() -> None:
        said = dimo(batch, sigma=sigma, noise=noise, drop_text=keep, drop_motion=keep, augment_seed=0)
        said.velocity.square().mean().backward()

    def reference() -> None:
        latents = torch.cat([batch.reference, batch.target], 2)
        plain(latents, 1000 * sigma, batch.text, return_dict=False)[0].square().mean().backward()

    compare("training step, tiny 3DiMo / plain backbone on the same tokens", ours, reference)


def random_batch(dimo: DiMo, n: int = 4, frames: int = 9, size: int = 64) -> Batch:
    """A batch of the tiny preset's shapes."""
    config = dimo.config
    channels, length, side = dimo.transformer.config["in_channels"], (frames - 1) // 4 + 1, size // 4
    target = torch.randn(n, channels, length, side, side)
    body, hand = config.body_size, config.hand_size
    return Batch(
        target=target,
        reference=target[:, :, :1],
        text=torch.randn(n, 16, dimo.transformer.config["text_dim"]),
        body=torch.rand(n, frames, 3, body, body),
        hands=torch.rand(n, frames, 2, 3, hand, hand),
        hand_ok=torch.ones(n, frames, 2, dtype=torch.bool),
        body6d=torch.randn(n, frames, 21, 6),
        hands6d=torch.randn(n, frames, 2, 15, 6),
        pose_ok=torch.ones(n, frames, dtype=torch.bool),
        hands_pose_ok=torch.ones(n, frames, 2, dtype=torch.bool),
        weight=torch.ones(n),
    )


if __name__ == "__main__":
    main()
