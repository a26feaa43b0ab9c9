"""Training windows: number, step and size of frames, and the choice of one for each clip (buckets)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log


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


def parsed_window(text: str, default: Window) -> Window:
    """Return the window that a text like 480x832 or 480x832x81 states; the rest is that of `default`.

    Raises `ValueError` for another form.
    """
    parts = text.lower().split("x")
    if len(parts) not in (2, 3) or not all(part.isascii() and part.isdigit() and int(part) for part in parts):
        raise ValueError(f"{text!r} is not a window: give WIDTHxHEIGHT or WIDTHxHEIGHTxFRAMES, such as 480x832x121")
    width, height, *frames = map(int, parts)
    return replace(default, width=width, height=height, num_frames=frames[0] if frames else default.num_frames)


def bucket_of(width: int, height: int, frames: int, windows: Sequence[Window]) -> Window:
    """Return the window in which a clip of this size and length is encoded.

    Of the windows whose aspect ratio is nearest to the clip's, that is the longest one that fits the clip, or the
    shortest one if none does.
    """
    if len(windows) == 1:
        return windows[0]

    def difference(window: Window) -> float:
        return round(abs(log(window.width * height / (window.height * width))), 6)

    nearest = min(map(difference, windows))
    alike = sorted((w for w in windows if difference(w) == nearest), key=lambda w: (w.span, w.width * w.height))
    return next((window for window in reversed(alike) if window.span <= frames), alike[0])
