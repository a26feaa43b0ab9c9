"""The common interface of all generators, which controls, training and the pipeline depend on."""

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self, get_args

import torch
from accelerate import init_empty_weights
from diffusers.configuration_utils import ConfigMixin
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.peft_utils import apply_lora_scale
from torch import Tensor, nn
from torch.nn.functional import pad

from opendimo.model.backbones.inject import MotionAlignment, MotionContext, MotionCrossAttention
from opendimo.model.config import Attention, Reference
from opendimo.model.multiview.attention import EVERY, RAY, ViewAttention, ViewContext
from opendimo.model.signal import Grid, Signal


def patch_side(config: Mapping[str, Any]) -> int:
    """Return the side, in latents, of a video token's square patch, from the config of a transformer."""
    patch = config["patch_size"]
    return int(patch if isinstance(patch, int) else patch[1])


class BlockConditioning(NamedTuple):
    """A signal prepared for the blocks: motion and views for all, and a scale and an addition, [B, S, D] or None,
    before each.

    `prefix`: number of prepended frames that receive no motion, 0 or 1.
    """

    prefix: int
    motion: MotionContext | None
    modulations: list[tuple[Tensor | None, Tensor | None]]
    views: ViewContext | None = None


class Generator(ModelMixin, ConfigMixin):  # type: ignore[misc]  # as all models of diffusers
    """A flow-matching transformer of diffusers conditioned on a control's `Signal`; without one it is the base model.

    Subclasses inherit from this class first and from a diffusers transformer second. Their config has the additional
    fields `motion_dim`, `motion_attention`, `reference`, `temporal_stride`, `camera_rays` and `view_attention`.
    """

    base: ClassVar[Any]
    """The diffusers class that is extended."""
    keeps_first_frame: ClassVar[bool]
    """Whether latent frame 0 is kept fixed if the reference is given as that frame; otherwise it is predicted."""
    motion_alignment: MotionAlignment | None
    """None in a generator for controls without motion tokens."""
    motion_rays: "RayEmbedding | None"
    """None in a generator that does not read the target's camera."""
    gradient_checkpointing: bool
    _no_split_modules: list[str]  # type: ignore[assignment]  # None only if there are none
    _repeated_blocks: list[str]
    # disabled: the base classes' plans split the video tokens anywhere, but aligned motion needs whole latent frames
    _cp_plan = None

    @classmethod
    def from_base(
        cls,
        path: Path,
        *,
        motion_dim: int,
        motion_attention: Attention | None,
        reference: Reference,
        text_length: int = 512,
        camera_rays: bool = False,
        view_attention: bool = False,
    ) -> Self:
        """Load a base `transformer` folder and add new motion modules that have no effect at first.

        If `motion_attention` is None, none are added for motion. Raises `ValueError` if the folder has missing or
        unknown weights.
        """
        base, info = cls.base.from_pretrained(path, output_loading_info=True)
        weights = {"missing": sorted(info["missing_keys"]), "unknown": sorted(info["unexpected_keys"])}
        if wrong := [f"{kind} weights {_first(names)}" for kind, names in weights.items() if names]:
            raise ValueError(
                f"{path} is not a complete {cls.base.__name__}: {'; '.join(wrong)}; download it again, or choose a "
                "base model of that class"
            )
        ours = {
            "motion_dim": motion_dim,
            "motion_attention": motion_attention,
            "reference": reference,
            "text_length": text_length,
            "camera_rays": camera_rays,
            "view_attention": view_attention,
        }
        config = cls.extract_init_dict(base.config, **ours)[0]
        with init_empty_weights():
            model = cls(**config)
        model.load_state_dict(base.state_dict(), strict=False, assign=True)
        for module in model.modules():
            if isinstance(module, (MotionAlignment, MotionCrossAttention, ViewAttention, RayEmbedding)):
                module.to_empty(device=base.device).reset_parameters()
        return model

    def new_alignment(self) -> MotionAlignment | None:
        """Build the alignment of motion with latent frames; None if the generator has no motion attention.

        Raises `ValueError` for an unknown reference mode or motion attention.
        """
        config = self.config
        if config["reference"] not in get_args(Reference):
            raise ValueError(f"reference must be 'prefix' or 'first_frame', not {config['reference']!r}")
        mode = config["motion_attention"]
        if mode is None:
            return None
        return MotionAlignment(mode, self.temporal_stride, config["motion_dim"], config["attention_head_dim"])

    def new_view_attention(self, block: int) -> ViewAttention | None:
        """Build the attention across views of a block (0-based); None if that block has none."""
        if not self.config["view_attention"] or block % EVERY:
            return None
        return ViewAttention(self.width, self.config["num_attention_heads"])

    def new_ray_embedding(self) -> "RayEmbedding | None":
        """Build the embedding of camera rays; None if the generator has none."""
        return RayEmbedding(RAY, self.width) if self.config["camera_rays"] else None

    @property
    def sees_cameras(self) -> bool:
        """Whether `Signal.rays` changes the output."""
        return bool(self.config["camera_rays"] or self.config["view_attention"])

    @property
    def width(self) -> int:
        """Width of the video tokens."""
        return int(self.config["num_attention_heads"] * self.config["attention_head_dim"])

    @property
    def temporal_stride(self) -> int:
        """Number of frames that a latent frame after the first encodes."""
        return int(self.config["temporal_stride"])

    @property
    def patch(self) -> int:
        """Side, in latents, of a video token's square patch."""
        return patch_side(self.config)

    @property
    def first_frame_is_given(self) -> bool:
        """Whether latent frame 0 is the reference itself and its velocity is not predicted."""
        return self.keeps_first_frame and self.config["reference"] == "first_frame"

    def grid(self, latents: Tensor) -> Grid:
        """Return the layout of the video tokens of latents [B, C, L, h, w], excluding a prepended reference."""
        frames, height, width = latents.shape[2:]
        return Grid(frames, height // self.patch, width // self.patch, self.width)

    @apply_lora_scale("attention_kwargs")
    def forward(
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        encoder_attention_mask: Tensor,
        motion: Signal | None = None,
        reference: Tensor | None = None,
        attention_kwargs: dict[str, Any] | None = None,
        return_dict: bool = True,
    ) -> Transformer2DModelOutput | tuple[Tensor]:
        """Predict the velocity of noisy latents, in the same shape, as `sample` or in a tuple.

        Args:
            hidden_states: noisy latents [B, C, L, h, w].
            timestep: [B] in 0..1000.
            encoder_hidden_states: embedded text [B, n, D].
            encoder_attention_mask: [B, n], non-zero where there is text; padding is at the end.
            motion: output of a control; None: no motion and no additions, as in the base model.
            reference: clean latent frame [B, C, 1, h, w].
            attention_kwargs: `scale`, the strength of a LoRA.
            return_dict: whether to return a `Transformer2DModelOutput` instead of a tuple.
        """
        prefix = int(reference is not None and self.config["reference"] == "prefix")
        conditioning = self.block_conditioning(motion, self.grid(hidden_states), prefix)
        text_ok = encoder_attention_mask.bool()
        velocity = self.velocity(hidden_states, timestep, encoder_hidden_states, text_ok, reference, conditioning)
        velocity = velocity[:, :, prefix:]
        return Transformer2DModelOutput(sample=velocity) if return_dict else (velocity,)

    @abstractmethod
    def velocity(
        self,
        latents: Tensor,
        timestep: Tensor,
        text: Tensor,
        text_ok: Tensor,
        reference: Tensor | None,
        conditioning: BlockConditioning,
    ) -> Tensor:
        """Predict the velocity [B, C, prefix + L, h, w].

        If `conditioning.prefix` is 1 the reference is prepended as an extra frame, otherwise it is latent frame 0.
        """

    def block_conditioning(self, signal: Signal | None, grid: Grid, prefix: int) -> BlockConditioning:
        """Prepare a signal for the blocks; the first `prefix` frames receive no motion.

        Raises `ValueError` if there are more additions than blocks, motion tokens without motion attention, or views
        without rays.
        """
        blocks = self.config["num_layers"]
        if signal is None:
            return BlockConditioning(prefix, None, [(None, None)] * blocks)
        if (given := max(len(signal.additions), len(signal.scales))) > blocks:
            raise ValueError(f"the control has additions for {given} blocks, but the generator has {blocks}")
        motion = None
        if signal.motion is not None:
            if self.motion_alignment is None:
                raise ValueError("the control sends motion tokens, but the generator was made without motion attention")
            motion = self.motion_alignment(signal.motion, grid.frames, prefix)
        prefix_tokens = prefix * grid.height * grid.width
        scales, additions = (
            [None if x is None else pad(x, (0, 0, prefix_tokens, 0)) for x in (*some, *[None] * (blocks - len(some)))]
            for some in (signal.scales, signal.additions)
        )
        rays = None if signal.rays is None else pad(signal.rays, (0, 0, prefix_tokens, 0))  # [B, S with prefix, 6]
        if self.motion_rays is not None and rays is not None:
            embedded = self.motion_rays(rays)
            additions[0] = embedded if additions[0] is None else additions[0] + embedded
        views = None
        if self.config["view_attention"]:
            if rays is None:
                raise ValueError("a generator with attention across views needs the rays of the cameras")
            views = ViewContext(signal.views, prefix + grid.frames, rays)
        return BlockConditioning(prefix, motion, list(zip(scales, additions, strict=True)), views)

    def run_block(
        self, block: nn.Module, modulation: tuple[Tensor | None, Tensor | None], tokens: Tensor, *arguments: Any
    ) -> Any:
        """Run a block on scaled video tokens plus their addition, with gradient checkpointing if it is enabled."""
        scale, addition = modulation
        tokens = tokens if scale is None else tokens * (1 + scale)
        tokens = tokens if addition is None else tokens + addition
        if torch.is_grad_enabled() and self.gradient_checkpointing:
            return self._gradient_checkpointing_func(block, tokens, *arguments)
        return block(tokens, *arguments)


class RayEmbedding(nn.Linear):
    """A linear map from rays [B, S, 6] to additions to the video tokens [B, S, D], zero-initialised."""

    def reset_parameters(self) -> None:
        """Initialise with zeros."""
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """Embed rays."""
        return super().forward(input.to(self.weight.dtype))


def _first(names: list[str]) -> str:
    """Return the first three names and the number of the others, for a message."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def unpatched(patches: Tensor, grid: Grid) -> Tensor:
    """Assemble the predicted patches of video tokens [B, S, C, p, p] to latents [B, C, L, h, w]."""
    patches = patches.unflatten(1, (grid.frames, grid.height, grid.width))  # [B, L, h/p, w/p, C, p, p]
    return patches.permute(0, 4, 1, 2, 5, 3, 6).flatten(5, 6).flatten(3, 4)
