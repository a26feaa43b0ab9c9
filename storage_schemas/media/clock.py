"""Frames with times of their own become frames at a constant rate."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import TypeVar

T = TypeVar("T")
TOLERANCE = 0.75  # frames that a time may be off before a frame is repeated or left out
LONGEST_STILL = 600.0  # seconds without a new picture, in all, that any file may have
MOST_REPEATS = 100  # of a stored frame, in the mean of the rest: what has fewer pictures of its own does not move
LONGEST_HOLD = 10.0  # seconds for which a picture stands still; a longer hole in the times is none in the pictures


def constant_rate(frames: Iterable[tuple[T, float | None]], fps: Fraction) -> Iterator[T]:
    """Frames with their times in seconds -> frames at `fps`, by repeating and leaving out.

    Times that jitter about a constant rate change nothing. A frame without a time follows the one before it; where
    the times jump (back, or by more than 10 s) they begin anew. Raises `ValueError` where nearly all would be repeats.
    """
    rate, longest = float(fps), LONGEST_HOLD * float(fps)
    count, origin = 0, None
    before: T | None = None
    for stored, (frame, seconds) in enumerate(frames, 1):
        place = count if seconds is None else seconds * rate - (0 if origin is None else origin)
        if seconds is not None and (origin is None or not -rate <= place - count <= longest):
            origin = seconds * rate - count
            place = count
        if place < count - TOLERANCE:
            continue
        if place > LONGEST_STILL * rate + MOST_REPEATS * stored:
            raise ValueError(
                f"{stored} pictures for {place / rate:.0f} s at {rate:g} a second: re-encode it at its true rate"
            )
        if place > count + TOLERANCE and before is not None:
            for _ in range(round(place) - count):
                yield before
                count += 1
        yield frame
        count += 1
        before = frame
