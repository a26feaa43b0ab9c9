"""Video sizes that a base model supports, and their sizes in latents and in tokens."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from opendimo.model.backbones.interface import Generator, patch_side
from opendimo.model.base_folder import part_config
from opendimo.model.vae import VAE, Strides, strides


@dataclass(frozen=True)
class LatentGeometry:
    """Strides of the VAE, and the side in latents of the transformer's square patch."""

    strides: Strides
    patch: int

    @classmethod
    def of(cls, vae: VAE, transformer: Generator) -> Self:
        """Return the geometry of a loaded VAE and transformer."""
        return cls(strides(vae.config), transformer.patch)

    @classmethod
    def of_folder(cls, base: Path) -> Self:
        """Return the geometry of a base model in the diffusers layout.

        Raises `ValueError` if its VAE or transformer is missing, or the VAE's config does not state its strides.
        """
        return cls(strides(part_config(base, "vae")), patch_side(part_config(base, "transformer")))

    @property
    def unit(self) -> int:
        """Number of pixels that height and width of a video must be a multiple of."""
        return self.strides.space * self.patch

    def latent_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int]:
        """Return latent frames, height and width (L, h, w). Raises `ValueError` like `check`."""
        self.check(num_frames, height, width)
        time, space = self.strides
        return (num_frames - 1) // time + 1, height // space, width // space

    def tokens(self, num_frames: int, height: int, width: int) -> int:
        """Return the number of video tokens of the transformer, excluding a prepended reference frame."""
        frames, h, w = self.latent_shape(num_frames, height, width)
        return frames * (h // self.patch) * (w // self.patch)

    def check(self, num_frames: int, height: int, width: int) -> None:
        """Raise one `ValueError` that lists every unsupported value with the nearest supported ones."""
        time, wrong = self.strides.time, []
        if num_frames < 1 or num_frames % time != 1 % time:
            near = _near(num_frames - 1, time, least=0)
            wrong.append(f"num_frames is {num_frames}, not {time} k + 1: take {' or '.join(str(n + 1) for n in near)}")
        for name, size in (("height", height), ("width", width)):
            if size < self.unit or size % self.unit:
                near = _near(size, self.unit, least=self.unit)
                wrong.append(f"{name} is {size}, not a multiple of {self.unit}: take {' or '.join(map(str, near))}")
        if wrong:
            raise ValueError("; ".join(wrong))


def _near(value: int, unit: int, least: int) -> list[int]:
    """Return the multiples of `unit` next below (or equal) and next above a value, and not below `least`."""
    below = value // unit * unit
    return [n for n in (below, below + unit) if n >= least] or [least]
