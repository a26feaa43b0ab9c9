"""3DiMo's ablation "channel concatenation": the same motion tokens, but as channels beside the latents.

Unchanged: encoder, tokens, augmentation, geometry head. The paper only says that the tokens are concatenated as
channels. Our choices: the tokens of the frames of a latent frame are averaged, an MLP maps them to channels that are
constant over the image, and the patch embedding is extended by zero-initialised input channels. For channels that are
constant within a patch this equals adding a linear map of them to the tokens, which is how it is implemented.
"""

from dataclasses import asdict
from typing import Self

from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_utils import ModelMixin  # noqa: F401  # pipelines look it up in this module
from torch import Tensor, nn

from opendimo.model.batch import Driving
from opendimo.model.controls.interface import Control, Shapes
from opendimo.model.encoder.config import EncoderConfig
from opendimo.model.encoder.tokens import MotionEncoder
from opendimo.model.folding import by_latent_frame, where_present
from opendimo.model.signal import Grid, Signal

CHANNELS = 64  # [ours]


class ChannelConcatControl(Control):
    """Adds motion tokens as `CHANNELS` additional channels of the generator's input."""

    reads_poses = False
    sends_motion = False
    has_features = True
    whole_windows = True

    @register_to_config
    def __init__(self, encoder: dict[str, int | bool], width: int, stride: int = 4) -> None:
        super().__init__()
        config = EncoderConfig(**encoder)  # type: ignore[arg-type]
        tokens = (config.body_tokens + 2 * config.hand_tokens * config.hands) * config.dim
        self.motion_encoder = MotionEncoder(config)
        self.to_channels = nn.Sequential(
            nn.LayerNorm(tokens), nn.Linear(tokens, config.dim), nn.GELU(), nn.Linear(config.dim, CHANNELS)
        )
        self.widening = nn.Linear(CHANNELS, width, bias=False)
        nn.init.zeros_(self.widening.weight)

    @classmethod
    def fresh(cls, shapes: Shapes) -> Self:
        """Return a new control with random weights and a zero-initialised output."""
        return cls(asdict(shapes.encoder), shapes.width, shapes.temporal_stride)

    def forward(self, driving: Driving, present: Tensor, grid: Grid) -> Signal:
        """Return one addition, which is the same for all tokens of a latent frame."""
        tokens = self.motion_encoder(driving.body, driving.hands, driving.hand_ok)  # [B, T, N, d]
        pooled = by_latent_frame(tokens, grid.frames, self.config["stride"]).mean(2)  # [B, L, N, d]
        added = self.widening(self.to_channels(pooled.flatten(2)))  # [B, L, D]
        added = added.repeat_interleave(grid.height * grid.width, dim=1)  # [B, S, D]
        return Signal(additions=(where_present(added, present),), features=tokens)
