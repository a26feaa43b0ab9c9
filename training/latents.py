"""Format of the cached latents of a release, and the check that they fit the base model to be trained."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from opendimo.model.base_folder import base_folder, encoders_id, part_config
from opendimo.model.latent_geometry import LatentGeometry
from opendimo.training.budget import FULL_SIZE
from opendimo.training.release import Pairs, Release

COLUMNS = ["vae", "num_frames", "frame_step", "width", "height"]
CHANNELS = ("z_dim", "latent_channels")
TEXT_WIDTHS = ("text_dim", "text_embed_dim")
"""Config keys of these sizes, in VAEs and transformers of Wan and HunyuanVideo-1.5."""
LEAST_TOKENS = 0.9
"""Tokens of the largest bucket, as a share of those of the window that a preset states."""
ADVICE = "encode the clips with this base model and create a new release, or train the base model they were made for"


@dataclass(frozen=True)
class LatentFormat:
    """Format of the latents of a bucket.

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

    @property
    def bucket(self) -> str:
        """Return the name of the bucket, as in `Pair`."""
        return f"{self.width}x{self.height}x{self.num_frames}"

    @property
    def window(self) -> str:
        """Return the window as text for messages."""
        return f"{self.num_frames} frames of {self.height} x {self.width}"


def latent_formats(release: Release, pairs: Pairs) -> dict[str, LatentFormat]:
    """Return the format of the latents of each bucket of `pairs`, by bucket.

    Raises `ValueError` if they were made by several VAEs or text encoders, if a bucket has several formats, or if the
    windows of pairs are not those of their latents.
    """
    rows = release.scan("latents", ["latent_id", *COLUMNS, "shape", "text_shape"])
    rows = rows.filter(pc.is_in(rows["latent_id"], value_set=pairs.texts("latent_id")))
    for axis, name in enumerate("CLhw"):
        rows = rows.append_column(name, pc.list_element(rows["shape"], axis))
    rows = rows.append_column("text_width", _last(rows["text_shape"]))
    _check_windows(rows, pairs)
    distinct = rows.group_by([*COLUMNS, *"CLhw", "text_width"]).aggregate([]).to_pylist()
    formats = [
        LatentFormat(**{n: r[n] for n in COLUMNS}, shape=tuple(r[n] for n in "CLhw"), text_width=r["text_width"])
        for r in distinct
    ]
    by_bucket = {one.bucket: one for one in formats}
    if not formats or len(by_bucket) < len(formats) or len({(one.vae, one.text_width) for one in formats}) > 1:
        listed = "; ".join(sorted(f"{one.shape} of {one.window} by {one.vae}" for one in formats)) or "none at all"
        raise ValueError(
            f"the release mixes latents: {listed}; encode all clips with the same base model and windows and rebuild "
            "the pairs"
        )
    return dict(sorted(by_bucket.items()))


def _last(lists: pa.ChunkedArray) -> pa.Array:
    """Return the last element of each list."""
    joined = lists.combine_chunks()
    ends = np.cumsum(pc.list_value_length(joined).to_numpy(zero_copy_only=False))
    return pc.list_flatten(joined).take(pa.array(ends - 1))


def _check_windows(latents: pa.Table, pairs: Pairs) -> None:
    """Raise `ValueError` if a pair has another window than its latents."""
    rows = pc.index_in(pairs.texts("latent_id"), value_set=latents["latent_id"].combine_chunks())
    if rows.null_count:
        missing = pairs.texts("latent_id").filter(pc.is_null(rows))[0]
        raise ValueError(f"a pair reads latents {missing}, which the release does not have: verify the release")
    of_pairs = rows.to_numpy(zero_copy_only=False)[pairs.codes("latent_id")]
    for name in ("num_frames", "frame_step"):
        if (pairs.numbers(name) != latents[name].to_numpy()[of_pairs]).any():
            raise ValueError(f"{name} of the pairs is not that of their latents: rebuild the pairs")


def check_latents(formats: Iterable[LatentFormat], base: str | Path, preset: str | None = None) -> None:
    """Raise `ValueError` if a base model cannot be trained on latents of these formats.

    That is: they were made by another VAE or text encoder, have another shape, or do not fit the window of `preset`:
    the largest bucket must have about as many tokens as that, and no bucket more. Reads every byte of the VAE and the
    text encoder.
    """
    formats = list(formats)
    folder = base_folder(base)
    for latents in formats:
        _check_shape(latents, base, folder)
    geometry = LatentGeometry.of_folder(folder)
    if preset in FULL_SIZE:
        video = FULL_SIZE[preset].video
        stated = geometry.tokens(*video)
        tokens = {one: geometry.tokens(one.num_frames, one.height, one.width) for one in formats}
        largest = max(formats, key=lambda one: tokens[one])
        if not LEAST_TOKENS * stated <= tokens[largest] <= stated:
            raise ValueError(
                f"preset {preset} trains on {video[0]} frames of {video[1]} x {video[2]}, or buckets of as many pixels "
                f"({stated} tokens), but the release's latents have {largest.window} ({tokens[largest]} tokens): "
                "encode windows of that size, or choose another preset"
            )
    vae = formats[0].vae
    if (expected := encoders_id(folder)) != vae:
        raise ValueError(
            f"the release's latents were made by {vae}, but the VAE and text encoder of {base} are {expected}: {ADVICE}"
        )


def _check_shape(latents: LatentFormat, base: str | Path, folder: Path) -> None:
    vae, transformer = part_config(folder, "vae"), part_config(folder, "transformer")
    geometry = LatentGeometry.of_folder(folder)
    shape = (_config_value(vae, CHANNELS), *geometry.latent_shape(latents.num_frames, latents.height, latents.width))
    if shape != latents.shape:
        raise ValueError(
            f"the release's latents of {latents.window} have shape {latents.shape}, "
            f"but the VAE of {base} makes {shape}: {ADVICE}"
        )
    if (width := _config_value(transformer, TEXT_WIDTHS)) != latents.text_width:
        raise ValueError(
            f"the release's text embeddings are {latents.text_width} wide, "
            f"but the transformer of {base} reads {width}: {ADVICE}"
        )


def _config_value(config: Mapping[str, Any], names: tuple[str, str]) -> int:
    for name in names:
        if name in config:
            return int(config[name])
    raise ValueError(
        f"the config of {config.get('_class_name')} has no {' or '.join(names)}: download the base model again"
    )
