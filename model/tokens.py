"""The motion encoder: each driving frame becomes a few view-agnostic tokens.

3DiMo, section 3.2: patchify, concatenate K = 5 learnable latents, several attention layers, keep only the latents;
one such tokenizer for the body and one for the hands; z = [z_body; z_hands]. The shape is TiTok's (Yu et al. 2024).
"""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from model.encoder_config import EncoderConfig


class FrameTokenizer(nn.Module):
    """A ViT over the patches of one frame and `tokens` learnable latents; only the latents leave it."""

    def __init__(self, *, size: int, patch: int, width: int, depth: int, heads: int, tokens: int, dim: int) -> None:
        super().__init__()
        if size % patch:
            raise ValueError(f"frames of {size} pixels cannot be cut into patches of {patch}: choose a multiple")
        self.size = size
        self.patches = nn.Conv2d(3, width, kernel_size=patch, stride=patch)
        self.positions = nn.Parameter(0.02 * torch.randn(1, (size // patch) ** 2, width))
        self.latents = nn.Parameter(0.02 * torch.randn(1, tokens, width))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
            for _ in range(depth)
        )
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, dim))
        self.gradient_checkpointing = False

    def forward(self, frames: Tensor) -> Tensor:
        """[M, 3, size, size] RGB in [0, 1] -> [M, tokens, dim]; frames do not see each other."""
        if frames.shape[1:] != (3, self.size, self.size):
            raise ValueError(f"driving frames must be [M, 3, {self.size}, {self.size}], not {tuple(frames.shape)}")
        patches = self.patches(2 * frames - 1).flatten(2).transpose(1, 2)  # [M, P, width]
        x = torch.cat([self.latents.expand(len(frames), -1, -1), patches + self.positions], dim=1)
        for layer in self.layers:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x = checkpoint(layer, x, use_reentrant=False)
            else:
                x = layer(x)
        return self.out(x[:, : self.latents.shape[1]])


class MotionEncoder(nn.Module):
    """Body tokenizer and a hand tokenizer shared by both hands; a missing hand is a learned null token."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        shared = {"width": config.width, "depth": config.depth, "heads": config.heads, "dim": config.dim}
        self.body = FrameTokenizer(size=config.body_size, patch=config.body_patch, tokens=config.body_tokens, **shared)
        self.hand = FrameTokenizer(size=config.hand_size, patch=config.hand_patch, tokens=config.hand_tokens, **shared)
        self.side = nn.Parameter(0.02 * torch.randn(2, 1, config.dim))
        self.missing_hand = nn.Parameter(0.02 * torch.randn(config.hand_tokens, config.dim))

    def forward(self, body: Tensor, hands: Tensor, hand_ok: Tensor) -> Tensor:
        """Tokens of every frame: body [B, T, 3, S, S], hands [B, T, 2, 3, s, s] (left, right), hand_ok [B, T, 2].

        Returns [B, T, N, dim] with N = body_tokens + 2 hand_tokens in the order body, left hand, right hand.
        """
        b, t = body.shape[:2]
        z_body = self.body(body.flatten(0, 1)).unflatten(0, (b, t))  # [B, T, K, d]
        z_hands = self.hand(hands.flatten(0, 2)).unflatten(0, (b, t, 2))  # [B, T, 2, K_h, d]
        z_hands = torch.where(hand_ok[..., None, None], z_hands, self.missing_hand) + self.side
        return torch.cat([z_body, z_hands.flatten(2, 3)], dim=2)
