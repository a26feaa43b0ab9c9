"""Format of the cached latents of a release, and the check that they fit the base model to be trained."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pyarrow.compute as pc

from opendimo.model.base_folder import base_folder, encoders_id, part_config
from opendimo.model.latent_geometry import LatentGeometry
from opendimo.training.budget import FULL_SIZE
from opendimo.training.release import Pairs, Release

COLUMNS = ["vae", "num_frames", "frame_step", "width", "height"]
CHANNELS = ("z_dim", "latent_channels")
TEXT_WIDTHS = ("text_dim", "text_embed_dim")
"""Config keys of these sizes, in VAEs and transformers of Wan and HunyuanVideo-1.5."""


@dataclass(frozen=True)
class LatentFormat:
    """Format shared by all latents of a release.

    `vae`: `encoders_id` of the VAE and text encoder. `num_frames`, `frame_step`, `width`, `height`: the window in
    frames and pixels. `shape`: (C, L, h, w). `text_width`: width of the text embeddings.
    """

    vae: str
    num_frames: int
    frame_step: int
    width: int
    height: int
    shape: tuple[int, int, int, int]
    text_width: int

    @classmethod
    def of(cls, release: Release, pairs: Pairs) -> Self:
        """Return the format of the latents that `pairs` read.

        Raises `ValueError` if they have several formats, or other windows than the pairs.
        """
        rows = release.scan("latents", ["latent_id", *COLUMNS, "shape", "text_shape"])
        rows = rows.filter(pc.is_in(rows["latent_id"], value_set=pairs.texts("latent_id")))
        for axis, name in enumerate("CLhw"):
            rows = rows.append_column(name, pc.list_element(rows["shape"], axis))
        rows = rows.append_column("text_width", pc.list_element(rows["text_shape"], 1))
        distinct = rows.group_by([*COLUMNS, *"CLhw", "text_width"]).aggregate([]).to_pylist()
        formats = [
            cls(**{n: r[n] for n in COLUMNS}, shape=tuple(r[n] for n in "CLhw"), text_width=r["text_width"])
            for r in distinct
        ]
        if len(formats) != 1:
            listed = "; ".join(sorted(f"{one.shape} of {one.window} by {one.vae}" for one in formats)) or "none at all"
            raise ValueError(f"the release mixes latents: {listed}; encode all windows alike and rebuild the pairs")
        for name in ("num_frames", "frame_step"):
            if (pairs.numbers(name) != getattr(formats[0], name)).any():
                raise ValueError(f"{name} of the pairs is not that of their latents: rebuild the pairs")
        return formats[0]

    @property
    def window(self) -> str:
        """Return the window as text for messages."""
        return f"{self.num_frames} frames of {self.height} x {self.width}"


def check_latents(latents: LatentFormat, base: str | Path, preset: str | None = None) -> None:
    """Raise `ValueError` if a base model cannot be trained on these latents.

    That is: they were made by another VAE or text encoder, have another shape, or not the window that `preset` states.
    Reads every byte of the VAE and the text encoder.
    """
    folder = base_folder(base)
    vae, transformer = part_config(folder, "vae"), part_config(folder, "transformer")
    advice = (
        "encode the clips with this base model and create a new release, or train the base model they were made for"
    )
    geometry = LatentGeometry.of_folder(folder)
    shape = (_config_value(vae, CHANNELS), *geometry.latent_shape(latents.num_frames, latents.height, latents.width))
    if shape != latents.shape:
        raise ValueError(
            f"the release's latents of {latents.window} have shape {latents.shape}, "
            f"but the VAE of {base} makes {shape}: {advice}"
        )
    if (width := _config_value(transformer, TEXT_WIDTHS)) != latents.text_width:
        raise ValueError(
            f"the release's text embeddings are {latents.text_width} wide, "
            f"but the transformer of {base} reads {width}: {advice}"
        )
    if preset in FULL_SIZE and (video := FULL_SIZE[preset].video) != (
        latents.num_frames,
        latents.height,
        latents.width,
    ):
        raise ValueError(
            f"preset {preset} trains on {video[0]} frames of {video[1]} x {video[2]}, but the release's latents have "
            f"{latents.window}: encode windows of that size, or choose another preset"
        )
    if (expected := encoders_id(folder)) != latents.vae:
        raise ValueError(
            f"the release's latents were made by {latents.vae}, but the VAE and text encoder of {base} are {expected}: "
            f"{advice}"
        )


def _config_value(config: Mapping[str, Any], names: tuple[str, str]) -> int:
    for name in names:
        if name in config:
            return int(config[name])
    raise ValueError(
        f"the config of {config.get('_class_name')} has no {' or '.join(names)}: download the base model again"
    )
