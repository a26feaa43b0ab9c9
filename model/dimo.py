"""3DiMo as one module for training: control, generator, geometry head (arXiv 2602.03796, section 3)."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from opendimo.model.adapters import ADAPTERS, has_adapters, load_adapters, save_adapters
from opendimo.model.backbones import generator_class
from opendimo.model.backbones.interface import Generator
from opendimo.model.batch import Batch, Driving, Prediction
from opendimo.model.config import DiMoConfig
from opendimo.model.controls import Control, control_class
from opendimo.model.controls.interface import Shapes
from opendimo.model.encoder.augment import augment_driving
from opendimo.model.flow import TIMESTEPS, noisy
from opendimo.model.geometry import GeometryHead
from opendimo.model.multiview.rays import token_rays
from opendimo.model.signal import Grid, Signal

__all__ = ["Batch", "DiMo", "DiMoConfig", "Driving", "Prediction"]


def generator_settings(config: DiMoConfig) -> dict[str, Any]:
    """Return the arguments of a `Generator`: motion attention only if the control sends motion tokens."""
    attention = config.motion_attention if control_class(config.control).sends_motion else None
    return {
        "motion_dim": config.encoder.dim,
        "motion_attention": attention,
        "reference": config.reference,
        "camera_rays": config.camera_rays,
        "view_attention": config.view_attention,
    }


def with_cameras(signal: Signal, transformer: Generator, driving: Driving, grid: Grid, views: int = 1) -> Signal:
    """Add the rays of the targets' cameras to a signal, if the generator reads them."""
    if not transformer.sees_cameras:
        return signal
    return signal._replace(rays=token_rays(driving, grid, transformer.temporal_stride), views=views)


def sees_cameras(transformer: Generator, control: Control) -> bool:
    """Return whether a model reads the target's camera."""
    return transformer.sees_cameras or control.sees_cameras


class DiMo(nn.Module):
    """The jointly trained model. `geometry` is None if it is disabled or the control has no motion tokens."""

    geometry: GeometryHead | None

    def __init__(
        self, config: DiMoConfig, transformer: Generator, control: Control, geometry: GeometryHead | None
    ) -> None:
        super().__init__()
        self.config = config
        self.transformer = transformer
        self.control = control
        self.geometry = geometry

    @classmethod
    def from_base(cls, base_dir: Path, config: DiMoConfig) -> Self:
        """Build a model from a pretrained generator (`base_dir/transformer`, diffusers layout) and a new control.

        The new control has no effect at first (zero-initialised output).
        """
        return cls.around(cls._generator(base_dir, config), config)

    @classmethod
    def around(cls, transformer: Generator, config: DiMoConfig) -> Self:
        """Build a model from a generator with a new control that has no effect at first.

        A geometry head is added if the config asks for it and the control has motion tokens.
        """
        encoder = config.encoder
        blocks = int(transformer.config["num_layers"])
        shapes = Shapes(encoder, transformer.width, transformer.temporal_stride, blocks)
        control = control_class(config.control).fresh(shapes)
        hand_tokens = encoder.hand_tokens if encoder.hands else 0
        head = GeometryHead(encoder.body_tokens, hand_tokens, encoder.dim, config.geometry_width)
        return cls(config, transformer, control, head if config.geometry and control.has_features else None).train()

    def save(self, directory: Path) -> None:
        """Write `dimo.json` and a diffusers folder (config.json, safetensors) for each part.

        Of a transformer with adapters, only these and the motion modules are written.
        """
        directory = Path(directory)
        if has_adapters(self.transformer):
            save_adapters(self.transformer, directory / "transformer")
        else:
            self.transformer.save_pretrained(directory / "transformer")
        self.control.save_pretrained(directory / "control")
        if self.geometry is not None:
            self.geometry.save_pretrained(directory / "geometry")
        parts = {"config": asdict(self.config), "geometry": self.geometry is not None}
        (directory / "dimo.json").write_text(json.dumps(parts, indent=2) + "\n")

    @classmethod
    def load(cls, directory: Path, base: Path | None = None) -> Self:
        """Load what `save` wrote, in training mode. `base`: folder of the base model, which adapters need.

        Raises `ValueError` if dimo.json is missing, or if adapters have no base model or do not fit it.
        """
        directory = Path(directory)
        if not (directory / "dimo.json").is_file():
            raise ValueError(f"{directory} is not a 3DiMo model: dimo.json is missing")
        parts = json.loads((directory / "dimo.json").read_text())
        config = DiMoConfig.of(parts["config"])
        if not (directory / "transformer" / ADAPTERS).is_file():
            transformer = generator_class(directory).from_pretrained(directory / "transformer")
        elif base is None:
            raise ValueError(f"{directory} holds adapters of a base model: give its folder")
        else:
            transformer = cls._generator(base, config)
            load_adapters(transformer, directory / "transformer")
        return cls(
            config,
            transformer,
            control_class(config.control).from_pretrained(directory / "control"),
            GeometryHead.from_pretrained(directory / "geometry") if parts["geometry"] else None,
        ).train()

    @staticmethod
    def _generator(base: Path, config: DiMoConfig) -> Generator:
        settings = generator_settings(config) | {"text_length": config.text_length}
        return generator_class(base).from_base(Path(base) / "transformer", **settings)

    def forward(
        self,
        batch: Batch,
        *,
        sigma: Tensor,
        noise: Tensor,
        drop_motion: Tensor,
        augment_seeds: Sequence[int] | None,
        perspective: float = 1.0,
        views: int = 1,
    ) -> Prediction:
        """Predict the velocity at noise level `sigma` [B] on the path from `batch.target` to `noise` (same shape).

        `drop_motion` [B] bool: samples whose motion is dropped, for classifier-free guidance. `augment_seeds`: one
        per sample; None = no augmentation. `perspective`: factor in [0, 1] for the strength of the augmentation's
        warps. `views`: every so many samples in a row are views of one moment.
        In `first_frame` mode, if latent frame 0 is given rather than predicted, its velocity is set to the exact one
        that leads to the reference.
        """
        driving = self._augmented(batch.driving, augment_seeds, perspective)
        grid = self.transformer.grid(batch.target)
        signal = with_cameras(self.control(driving, ~drop_motion, grid), self.transformer, driving, grid, views)
        velocity = self.transformer(
            noisy(batch.target, noise, sigma),
            sigma * TIMESTEPS,
            batch.text,
            batch.text_ok,
            signal,
            batch.reference,
            return_dict=False,
        )[0]
        if self.transformer.first_frame_is_given:
            velocity = torch.cat([noise[:, :, :1] - batch.reference, velocity[:, :, 1:]], dim=2)
        return Prediction(velocity, signal.features, signal.loss_weight, signal.losses)

    def features(self, batch: Batch, augment_seeds: Sequence[int] | None = None, perspective: float = 1.0) -> Tensor:
        """Encode the driving frames to motion features [B, T, N, d], without running the generator.

        Raises `ValueError` if the control has none.
        """
        driving = self._augmented(batch.driving, augment_seeds, perspective)
        present = torch.ones(len(batch.target), dtype=torch.bool, device=batch.target.device)
        features = self.control(driving, present, self.transformer.grid(batch.target)).features
        if features is None:
            raise ValueError(f"control {self.config.control!r} has no motion features")
        return cast(Tensor, features)

    def poses(self, features: Tensor) -> tuple[Tensor, Tensor | None]:
        """Predict 6-D rotations of the body [B, T, 21, 6] and the hands [B, T, 2, 15, 6] from features [B, T, N, d].

        Raises `ValueError` if the model has no geometry head.
        """
        if self.geometry is None:
            raise ValueError("the model has no geometry head: poses cannot be predicted from its motion tokens")
        body6d, hands6d = self.geometry(features)
        return body6d, hands6d

    def _augmented(self, driving: Driving, seeds: Sequence[int] | None, perspective: float) -> Driving:
        """Augment the pixels of driving frames; a no-op for controls that read pose labels, which ignore pixels."""
        if seeds is None or self.control.reads_poses:
            return driving
        augment = replace(self.config.augment, perspective=perspective * self.config.augment.perspective)
        return augment_driving(driving, augment, seeds)
