"""Convert frames with variable time stamps to a constant frame rate."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import TypeVar

T = TypeVar("T")
TOLERANCE = 0.75  # maximum deviation of a time stamp, in frames, before a frame is repeated or dropped
LONGEST_STILL = 600.0  # total seconds of repeated frames that every file may have
MOST_REPEATS = 100  # beyond that, maximum mean number of output frames per stored frame
LONGEST_HOLD = 10.0  # maximum duration of a frame in seconds; a longer gap is an error in the time stamps


def constant_rate(frames: Iterable[tuple[T, float | None]], fps: Fraction) -> Iterator[T]:
    """Convert frames with times in seconds to frames at the constant rate `fps`, by repeating and dropping frames.

    Jitter of the times about a constant rate has no effect. A frame without a time follows the previous one. If the
    times jump (back by more than 1 s, or forward by more than 10 s), the time base is reset. Raises `ValueError` if
    nearly all frames would be repeats.
    """
    rate, longest = float(fps), LONGEST_HOLD * float(fps)
    count, origin = 0, None
    previous: T | None = None
    for stored, (frame, seconds) in enumerate(frames, 1):
        position = count if seconds is None else seconds * rate - (0 if origin is None else origin)
        if seconds is not None and (origin is None or not -rate <= position - count <= longest):
            origin = seconds * rate - count
            position = count
        if position < count - TOLERANCE:
            continue
        if position > LONGEST_STILL * rate + MOST_REPEATS * stored:
            raise ValueError(
                f"only {stored} frames for {position / rate:.0f} s at {rate:g} fps: "
                "re-encode the video at its true frame rate"
            )
        if position > count + TOLERANCE and previous is not None:
            for _ in range(round(position) - count):
                yield previous
                count += 1
        yield frame
        count += 1
        previous = frame
