"""Which videos a base model can make, and how large they are as latents and as tokens."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from opendimo.model.backbones.interface import Generator, patch_side
from opendimo.model.base_folder import part_config
from opendimo.model.vae import VAE, Strides, strides


@dataclass(frozen=True)
class LatentGeometry:
    """Strides of the VAE, and the side of a transformer's square patch in latents."""

    strides: Strides
    patch: int

    @classmethod
    def of(cls, vae: VAE, transformer: Generator) -> Self:
        """Of the parts of a base model."""
        return cls(strides(vae.config), transformer.patch)

    @classmethod
    def of_folder(cls, base: Path) -> Self:
        """Of a base model in the diffusers layout. Raises `ValueError` where its VAE or its transformer is missing,
        or does not say its strides."""
        return cls(strides(part_config(base, "vae")), patch_side(part_config(base, "transformer")))

    @property
    def unit(self) -> int:
        """Height and width of a video are multiples of this many pixels."""
        return self.strides.space * self.patch

    def latent_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int]:
        """Latent frames, height and width (L, h, w). Raises `ValueError` as `check`."""
        self.check(num_frames, height, width)
        time, space = self.strides
        return (num_frames - 1) // time + 1, height // space, width // space

    def tokens(self, num_frames: int, height: int, width: int) -> int:
        """Video tokens of the transformer, a reference frame in front not counted."""
        frames, h, w = self.latent_shape(num_frames, height, width)
        return frames * (h // self.patch) * (w // self.patch)

    def check(self, num_frames: int, height: int, width: int) -> None:
        """Raises one `ValueError` that names all that does not fit, with the nearest values below and above."""
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
    """The multiples of `unit` on both sides of a value, from `least` on."""
    below = value // unit * unit
    return [n for n in (below, below + unit) if n >= least] or [least]
