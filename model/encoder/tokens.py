"""The motion encoder: each driving frame becomes a few view-agnostic tokens.

3DiMo, section 3.2: patchify, concatenate K = 5 learnable latents, several attention layers, keep only the latents;
one such tokenizer for the body and one for the hands; z = [z_body; z_hands]. The architecture is that of TiTok's
encoder (Yu et al. 2024), as in IM-Animation by the same group, whose weights `model/encoder/im_animation.py` loads.
"""

from collections.abc import Callable
from functools import partial

import torch
from diffusers.models.embeddings import get_2d_sincos_pos_embed
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from opendimo.model.encoder.config import EncoderConfig

MIDDLE, SPREAD = 0.5, 0.25
"""RGB in [0, 1] is normalised to (x - MIDDLE) / SPREAD before the patch embedding. Without centring, the common
brightness of all patches dominates the input of a new encoder: its tokens hardly differ from frame to frame, and the
encoder collapses in training."""


CODE = 0.5
"""Standard deviation of the random code that `standardise` gives each token."""
LEAST_SPREAD = 0.3
"""Lower limit of the spread that `standardise` scales by, relative to the median dimension; less is taken for noise."""


class FrameTokenizer(nn.Module):
    """A ViT over the patches of one frame, a class token and `tokens` learnable latents; it outputs the latents only.

    `chunk` frames are processed at once. With gradient checkpointing only the pixels of a chunk are kept; in the
    backward pass the chunk is recomputed, with the inputs of its layers checkpointed. Memory therefore does not grow
    with the number of frames, apart from the pixels.
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
        self.positions = nn.Parameter(_sincos_positions(size // patch, width)[None])
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
        """Encode RGB [M, 3, size, size] in [0, 1] to tokens [M, tokens, dim]; each frame is encoded separately."""
        if frames.shape[1:] != (3, self.size, self.size):
            raise ValueError(f"driving frames must be [M, 3, {self.size}, {self.size}], not {tuple(frames.shape)}")
        return torch.cat([self._checkpointed(self._tokens, chunk) for chunk in frames.split(self.chunk)])

    def _tokens(self, frames: Tensor) -> Tensor:
        patches = self.patches((frames - MIDDLE) / SPREAD).flatten(2).transpose(1, 2) + self.positions  # [m, P, width]
        learned = torch.cat([self.latents, self.class_token], dim=1).expand(len(frames), -1, -1)  # [m, K + 1, width]
        x = self.norm_in(torch.cat([learned, patches], dim=1))
        for layer in self.layers:
            x = self._checkpointed(layer, x)
        return self.out(self.norm_out(x[:, : self.latents.shape[1]])) + self.offsets

    @torch.no_grad()
    def centre(self) -> None:
        """Set the offsets so that the tokens of a uniformly grey frame are zero.

        Most of a new encoder's token is a constant that does not depend on the frame. Without that constant, tokens
        differ between frames from the start.
        """
        grey = torch.full((1, 3, self.size, self.size), MIDDLE, device=self.offsets.device, dtype=self.offsets.dtype)
        self.offsets.sub_(self._tokens(grey))

    @torch.no_grad()
    def standardise(self, frames: Tensor) -> None:
        """Change the last layer so that tokens of `frames` [M, 3, size, size] have a variance of about 1 around a code.

        Most of a token is the same for every frame, so keys and values computed from it are nearly equal. Without that
        part, cross-attention receives the differences. The mean of each of the K tokens is replaced by a different
        random code, so that attention can distinguish them. Dimensions with little variance are amplified less.
        """
        tokens = self.forward(frames)  # [M, tokens, dim]
        mean = tokens.mean(0, keepdim=True)
        spread = (tokens - mean).square().mean((0, 1)).sqrt()  # [dim]
        scale = 1 / spread.clamp(min=LEAST_SPREAD * float(spread.median()))
        code = torch.randn(mean.shape, generator=torch.Generator().manual_seed(len(mean[0]))).to(mean)
        self.offsets.copy_((self.offsets - mean) * scale + CODE * code)
        self.out.weight.mul_(scale[:, None])
        self.out.bias.mul_(scale)

    def _checkpointed(self, step: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Run a step, with gradient checkpointing if it is enabled."""
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(step, x, use_reentrant=False, preserve_rng_state=False)  # steps are deterministic
        return step(x)


def _sincos_positions(side: int, width: int) -> Tensor:
    """Return the 2-D sine-cosine position embedding of side x side patches, [side^2, width].

    It is as large as the patch embeddings. New attention layers roughly average over patches; with small random
    positions such an average contains no information about where a limb is.
    """
    positions = get_2d_sincos_pos_embed(width, side, base_size=side, output_type="pt")
    return torch.as_tensor(positions).float()


class MotionEncoder(nn.Module):
    """A body tokenizer and a hand tokenizer shared by both hands; a missing hand is a learned null token."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        tokenizer = partial(FrameTokenizer, width=config.width, depth=config.depth, heads=config.heads, dim=config.dim)
        chunk = config.frames_per_chunk
        self.body = tokenizer(size=config.body_size, patch=config.body_patch, tokens=config.body_tokens, chunk=chunk)
        self.hand = None
        if not config.hands:
            return
        chunk = max(1, round(chunk * (config.body_size / config.hand_size) ** 2))  # equal number of pixels
        self.hand = tokenizer(size=config.hand_size, patch=config.hand_patch, tokens=config.hand_tokens, chunk=chunk)
        self.side = nn.Parameter(0.02 * torch.randn(2, 1, config.dim))
        self.missing_hand = nn.Parameter(0.02 * torch.randn(config.hand_tokens, config.dim))

    def standardise(self, body: Tensor, hands: Tensor, hand_ok: Tensor) -> None:
        """Standardise the tokens of both tokenizers over inputs as for `forward`; only visible hands are used."""
        self.body.standardise(body.flatten(0, 1))
        visible = hands.flatten(0, 2)[hand_ok.flatten()]
        if self.hand is not None and len(visible) > 1:
            self.hand.standardise(visible)

    def forward(self, body: Tensor, hands: Tensor, hand_ok: Tensor) -> Tensor:
        """Encode every frame: body [B, T, 3, S, S], hands [B, T, 2, 3, s, s] (left, right), hand_ok [B, T, 2].

        Returns [B, T, N, dim] with N = body_tokens + 2 hand_tokens in the order body, left hand, right hand. Without a
        hand tokenizer, N = body_tokens and the hands are ignored.
        """
        b, t = body.shape[:2]
        z_body = self.body(body.flatten(0, 1)).unflatten(0, (b, t))  # [B, T, K, d]
        if self.hand is None:
            return z_body
        # a missing hand is encoded as a black image and discarded, because all ranks must run the same layers
        crops = torch.where(hand_ok[..., None, None, None], hands, 0.0)
        z_hands = self.hand(crops.flatten(0, 2)).unflatten(0, (b, t, 2))  # [B, T, 2, K_h, d]
        z_hands = torch.where(hand_ok[..., None, None], z_hands, self.missing_hand) + self.side
        return torch.cat([z_body, z_hands.flatten(2, 3)], dim=2)
