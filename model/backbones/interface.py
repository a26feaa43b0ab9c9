"""What all generators have in common, so that controls, training and the pipeline do not know which one they have."""

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self, get_args

import torch
from accelerate import init_empty_weights
from diffusers.configuration_utils import ConfigMixin
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn.functional import pad

from opendimo.model.backbones.inject import MotionAlignment, MotionContext, MotionCrossAttention
from opendimo.model.config import Attention, Reference
from opendimo.model.signal import Grid, Signal


def patch_side(config: Mapping[str, Any]) -> int:
    """Latents on a side of the square that is one video token, by the config of a transformer."""
    patch = config["patch_size"]
    return int(patch if isinstance(patch, int) else patch[1])


class Heard(NamedTuple):
    """Of a signal: motion for all blocks, and what is added [B, S, D] in front of each. `prefix`: how many frames in
    front hear nothing, 0 or 1."""

    prefix: int
    motion: MotionContext | None
    additions: list[Tensor | None]


class Generator(ModelMixin, ConfigMixin):  # type: ignore[misc]  # as all models of diffusers
    """A diffusers transformer of the flow-matching kind that hears a control's `Signal`; without it, the base model.

    The first base of our subclass of a transformer of diffusers, whose config gets `motion_dim`, `motion_attention`,
    `reference` and `temporal_stride`.
    """

    base: ClassVar[Any]
    """The class of diffusers that ours extends."""
    keeps_first_frame: ClassVar[bool]
    """Whether a reference given as latent frame 0 stays as it is; else that frame is predicted all the same."""
    motion_alignment: MotionAlignment | None
    """None in a generator for controls without motion tokens."""
    gradient_checkpointing: bool
    _no_split_modules: list[str]  # type: ignore[assignment]  # None only where there are none
    _repeated_blocks: list[str]
    # the bases' split the video tokens anywhere, and aligned motion needs whole latent frames
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
    ) -> Self:
        """The weights of a base `transformer` folder with new, silent motion modules (none for no `motion_attention`).

        Raises `ValueError` when the folder lacks a weight of the base model or holds others.
        """
        base, info = cls.base.from_pretrained(path, output_loading_info=True)
        weights = {"missing": sorted(info["missing_keys"]), "unknown": sorted(info["unexpected_keys"])}
        if wrong := [f"{kind} weights {_first(names)}" for kind, names in weights.items() if names]:
            raise ValueError(
                f"{path} is not a whole {cls.base.__name__}: {'; '.join(wrong)}; download it again, or choose a base "
                "model of that class"
            )
        ours = {
            "motion_dim": motion_dim,
            "motion_attention": motion_attention,
            "reference": reference,
            "text_length": text_length,
        }
        config = cls.extract_init_dict(base.config, **ours)[0]
        with init_empty_weights():
            model = cls(**config)
        model.load_state_dict(base.state_dict(), strict=False, assign=True)
        for module in model.modules():
            if isinstance(module, (MotionAlignment, MotionCrossAttention)):
                module.to_empty(device=base.device).reset_parameters()
        return model

    def add_motion(self, blocks: nn.ModuleList, kind: type[nn.Module]) -> None:
        """Makes the blocks that the base class has built, whose weights keep their names, hear motion as `kind` does.

        Raises `ValueError` for an unknown reference mode or motion attention.
        """
        config = self.config
        if config["reference"] not in get_args(Reference):
            raise ValueError(f"reference must be 'prefix' or 'first_frame', not {config['reference']!r}")
        for block in blocks:
            block.__class__ = kind
        if config["motion_attention"] is None:
            self.motion_alignment = None
            return
        heads, head_dim = config["num_attention_heads"], config["attention_head_dim"]
        for block in blocks:
            block.motion = MotionCrossAttention(self.width, config["motion_dim"], heads)
        self.motion_alignment = MotionAlignment(
            config["motion_attention"], self.temporal_stride, config["motion_dim"], head_dim
        )

    @property
    def width(self) -> int:
        """Of the video tokens."""
        return int(self.config["num_attention_heads"] * self.config["attention_head_dim"])

    @property
    def temporal_stride(self) -> int:
        """Frames that a latent frame after the first stands for."""
        return int(self.config["temporal_stride"])

    @property
    def patch(self) -> int:
        """Latents on a side of the square that is one video token."""
        return patch_side(self.config)

    @property
    def first_frame_is_given(self) -> bool:
        """Whether latent frame 0 is the reference itself, so that its velocity is not predicted."""
        return self.keeps_first_frame and self.config["reference"] == "first_frame"

    def grid(self, latents: Tensor) -> Grid:
        """The video tokens that stand for latents [B, C, L, h, w], the reference's not counted."""
        frames, height, width = latents.shape[2:]
        return Grid(frames, height // self.patch, width // self.patch, self.width)

    def forward(
        self,
        latents: Tensor,
        timestep: Tensor,
        text: Tensor,
        text_ok: Tensor,
        signal: Signal | None = None,
        reference: Tensor | None = None,
    ) -> Tensor:
        """Velocity [B, C, L, h, w] of noisy latents of that shape.

        `timestep` [B] in 0..1000, `text` [B, n, D] and `text_ok` [B, n] bool (False where padded, at the end),
        `reference` a clean latent frame [B, C, 1, h, w].
        """
        prefix = int(reference is not None and self.config["reference"] == "prefix")
        heard = self.heard(signal, self.grid(latents), prefix)
        return self.velocity(latents, timestep, text, text_ok, reference, heard)[:, :, prefix:]

    @abstractmethod
    def velocity(
        self, latents: Tensor, timestep: Tensor, text: Tensor, text_ok: Tensor, reference: Tensor | None, heard: Heard
    ) -> Tensor:
        """Velocity [B, C, prefix + L, h, w]; the reference is the frame in front, or where `heard.prefix` is 0 latent
        frame 0."""

    def heard(self, signal: Signal | None, grid: Grid, prefix: int) -> Heard:
        """What the blocks are told of a signal; `prefix` frames in front hear nothing.

        Raises `ValueError` where there are more additions than blocks, and for motion that nothing here can hear.
        """
        blocks = self.config["num_layers"]
        if signal is None:
            return Heard(prefix, None, [None] * blocks)
        if len(signal.additions) > blocks:
            raise ValueError(f"the control adds in front of {len(signal.additions)} blocks, the generator has {blocks}")
        motion = None
        if signal.motion is not None:
            if self.motion_alignment is None:
                raise ValueError("the control sends motion tokens, but the generator was made without motion attention")
            motion = self.motion_alignment(signal.motion, grid.frames, prefix)
        silent = prefix * grid.height * grid.width
        additions = [pad(addition, (0, 0, silent, 0)) for addition in signal.additions]
        return Heard(prefix, motion, [*additions, *[None] * (blocks - len(additions))])

    def run_block(self, block: nn.Module, addition: Tensor | None, tokens: Tensor, *arguments: Any) -> Any:
        """A block on video tokens plus what is added to them, recomputed in the backward where gradients are
        checkpointed."""
        tokens = tokens if addition is None else tokens + addition
        if torch.is_grad_enabled() and self.gradient_checkpointing:
            return self._gradient_checkpointing_func(block, tokens, *arguments)
        return block(tokens, *arguments)


def _first(names: list[str]) -> str:
    """A few of them, for a message."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def unpatched(patches: Tensor, grid: Grid) -> Tensor:
    """What is predicted for each video token, [B, S, C, p, p] -> [B, C, L, h, w]."""
    patches = patches.unflatten(1, (grid.frames, grid.height, grid.width))  # [B, L, h/p, w/p, C, p, p]
    return patches.permute(0, 4, 1, 2, 5, 3, 6).flatten(5, 6).flatten(3, 4)
