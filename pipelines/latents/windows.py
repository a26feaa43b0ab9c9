"""The windows that training sees: which frames of a clip, at which size."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """`num_frames` (4k + 1) clip frames, one in every `frame_step`, as `width` x `height` pixels.

    Raises `ValueError` for other numbers of frames, which the VAEs' four-fold compression of time cannot hold.
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
        """Clip frames from the first frame of a window to one past its last."""
        return (self.num_frames - 1) * self.frame_step + 1
