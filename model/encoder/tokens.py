"""The motion encoder: each driving frame becomes a few view-agnostic tokens.

3DiMo, section 3.2: patchify, concatenate K = 5 learnable latents, several attention layers, keep only the latents;
one such tokenizer for the body and one for the hands; z = [z_body; z_hands]. The shape is that of TiTok's encoder (Yu
et al. 2024), as in IM-Animation by the same group, whose weights `model/encoder/im_animation.py` loads.
"""

from collections.abc import Callable
from functools import partial

import torch
from diffusers.models.embeddings import get_2d_sincos_pos_embed
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from opendimo.model.encoder.config import EncoderConfig

MIDDLE, SPREAD = 0.5, 0.25
"""What RGB in [0, 1] is centred on and divided by before the patches. Uncentred, the common brightness of all patches
is most of what a fresh encoder sees: its tokens hardly differ from frame to frame, and training ends blind."""


CODE = 0.5
"""Standard deviation of the codes of tokens that are standardised."""
LEAST_SPREAD = 0.3
"""Spread of a dimension of tokens, over that of the median one, below which it is taken for noise."""


class FrameTokenizer(nn.Module):
    """A ViT over the patches of one frame, a class token and `tokens` learnable latents; only the latents leave it.

    `chunk` frames go through it at a time. With gradient checkpointing a chunk keeps its pixels alone and is computed
    again when its gradient is asked for, keeping then the inputs of its layers: memory does not grow with the clip.
    """

    def __init__(
        self, *, size: int, patch: int, width: int, depth: int, heads: int, tokens: int, dim: int, chunk: int
    ) -> None:
        super().__init__()
        if size % patch:
            raise ValueError(f"frames of {size} pixels cannot be cut into patches of {patch}: choose a multiple")
        self.size, self.heads, self.chunk = size, heads, chunk
        self.patches = nn.Conv2d(3, width, kernel_size=patch, stride=patch)
        self.class_token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.positions = nn.Parameter(_places(size // patch, width)[None])
        self.latents = nn.Parameter(0.02 * torch.randn(1, tokens, width))
        self.norm_in = nn.LayerNorm(width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
            for _ in range(depth)
        )
        self.norm_out = nn.LayerNorm(width)
        self.out = nn.Linear(width, dim)
        self.offsets = nn.Parameter(torch.zeros(1, tokens, dim))
        self.gradient_checkpointing = False
        self.centre()

    def forward(self, frames: Tensor) -> Tensor:
        """[M, 3, size, size] RGB in [0, 1] -> [M, tokens, dim]; frames do not see each other."""
        if frames.shape[1:] != (3, self.size, self.size):
            raise ValueError(f"driving frames must be [M, 3, {self.size}, {self.size}], not {tuple(frames.shape)}")
        return torch.cat([self._kept(self._tokens, chunk) for chunk in frames.split(self.chunk)])

    def _tokens(self, frames: Tensor) -> Tensor:
        patches = self.patches((frames - MIDDLE) / SPREAD).flatten(2).transpose(1, 2) + self.positions  # [m, P, width]
        first = torch.cat([self.latents, self.class_token], dim=1).expand(len(frames), -1, -1)  # [m, K + 1, width]
        x = self.norm_in(torch.cat([first, patches], dim=1))
        for layer in self.layers:
            x = self._kept(layer, x)
        return self.out(self.norm_out(x[:, : self.latents.shape[1]])) + self.offsets

    @torch.no_grad()
    def centre(self) -> None:
        """Set the offsets so that the tokens of a uniformly grey frame are zero.

        What random layers make of any frame at all is most of a token: without it, frames differ from the start.
        """
        grey = torch.full((1, 3, self.size, self.size), MIDDLE, device=self.offsets.device, dtype=self.offsets.dtype)
        self.offsets.sub_(self._tokens(grey))

    @torch.no_grad()
    def standardise(self, frames: Tensor) -> None:
        """Change the last layer so that tokens of `frames` [M, 3, size, size] have a variance of about 1 around a code.

        Most of a token is the same for every frame, and keys and values made of it are alike: with that part removed,
        cross-attention sees what differs. The mean of each of the K tokens becomes a random code of its own, by which
        attention tells them apart. Dimensions that hardly vary are amplified less.
        """
        tokens = self.forward(frames)  # [M, tokens, dim]
        mean = tokens.mean(0, keepdim=True)
        spread = (tokens - mean).square().mean((0, 1)).sqrt()  # [dim]
        scale = 1 / spread.clamp(min=LEAST_SPREAD * float(spread.median()))
        code = torch.randn(mean.shape, generator=torch.Generator().manual_seed(len(mean[0]))).to(mean)
        self.offsets.copy_((self.offsets - mean) * scale + CODE * code)
        self.out.weight.mul_(scale[:, None])
        self.out.bias.mul_(scale)

    def _kept(self, step: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """A step that keeps, for its gradient, its input alone where that is switched on."""
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(step, x, use_reentrant=False, preserve_rng_state=False)  # nothing in it is random
        return step(x)


def _places(side: int, width: int) -> Tensor:
    """Sines and cosines of the places of side x side patches, [side^2, width].

    As large as the patches' own embeddings: from small random positions an average over patches, which is all that
    fresh attention sees, does not tell where a limb is.
    """
    places = get_2d_sincos_pos_embed(width, side, base_size=side, output_type="pt")
    return torch.as_tensor(places).float()


class MotionEncoder(nn.Module):
    """Body tokenizer and a hand tokenizer shared by both hands; a missing hand is a learned null token."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        tokenizer = partial(FrameTokenizer, width=config.width, depth=config.depth, heads=config.heads, dim=config.dim)
        chunk = config.frames_per_chunk
        self.body = tokenizer(size=config.body_size, patch=config.body_patch, tokens=config.body_tokens, chunk=chunk)
        self.hand = None
        if not config.hands:
            return
        chunk = max(1, round(chunk * (config.body_size / config.hand_size) ** 2))  # as many pixels
        self.hand = tokenizer(size=config.hand_size, patch=config.hand_patch, tokens=config.hand_tokens, chunk=chunk)
        self.side = nn.Parameter(0.02 * torch.randn(2, 1, config.dim))
        self.missing_hand = nn.Parameter(0.02 * torch.randn(config.hand_tokens, config.dim))

    def standardise(self, body: Tensor, hands: Tensor, hand_ok: Tensor) -> None:
        """Standardise the tokens of both tokenizers over frames shaped as for `forward`, of hands that are seen."""
        self.body.standardise(body.flatten(0, 1))
        seen = hands.flatten(0, 2)[hand_ok.flatten()]
        if self.hand is not None and len(seen) > 1:
            self.hand.standardise(seen)

    def forward(self, body: Tensor, hands: Tensor, hand_ok: Tensor) -> Tensor:
        """Tokens of every frame: body [B, T, 3, S, S], hands [B, T, 2, 3, s, s] (left, right), hand_ok [B, T, 2].

        Returns [B, T, N, dim] with N = body_tokens + 2 hand_tokens in the order body, left hand, right hand; N =
        body_tokens without a hand tokenizer, and the hands are not looked at.
        """
        b, t = body.shape[:2]
        z_body = self.body(body.flatten(0, 1)).unflatten(0, (b, t))  # [B, T, K, d]
        if self.hand is None:
            return z_body
        # a missing hand is encoded like any other, as black, and thrown away: ranks must run the same layers
        seen = torch.where(hand_ok[..., None, None, None], hands, 0.0)
        z_hands = self.hand(seen.flatten(0, 2)).unflatten(0, (b, t, 2))  # [B, T, 2, K_h, d]
        z_hands = torch.where(hand_ok[..., None, None], z_hands, self.missing_hand) + self.side
        return torch.cat([z_body, z_hands.flatten(2, 3)], dim=2)
