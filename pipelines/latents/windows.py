"""The training window: number, step and size of frames."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """A window of `num_frames` (4k + 1) frames, every `frame_step`-th of a clip, at `width` x `height` pixels.

    Raises `ValueError` for other numbers of frames: the VAEs compress time four-fold and need 4k + 1. Raises it also
    for a `frame_step` below 1.
    """

    num_frames: int = 9
    frame_step: int = 2
    width: int = 64
    height: int = 64

    def __post_init__(self) -> None:
        if self.num_frames % 4 != 1 or self.frame_step < 1:
            raise ValueError(
                f"a window needs 4k + 1 frames and a positive step, got {self.num_frames}, {self.frame_step}"
            )

    @property
    def span(self) -> int:
        """Number of clip frames from the first to the last frame of a window, both included."""
        return (self.num_frames - 1) * self.frame_step + 1
