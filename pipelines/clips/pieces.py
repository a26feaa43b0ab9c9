"""Measure and encode the pieces of windows that were split where a second person comes into view or leaves."""

from collections import deque
from collections.abc import Callable, Iterator

from opendimo.pipelines.clips.frame import Frame
from opendimo.pipelines.clips.shot import Shot, Window

Piece = tuple[int, int, int]  # start and stop in frames of the source, index of the source's span


class Pieces:
    """Collects the pieces of windows, to read their frames in one second pass."""

    def __init__(self) -> None:
        self._pieces: set[Piece] = set()  # windows that overlap may have the same piece

    def add(self, span: range, span_index: int) -> None:
        """Add the piece with the frames of `span`, in the span `span_index` of the source."""
        self._pieces.add((span.start, span.stop, span_index))

    def measured(
        self, frames: Callable[[range], Iterator[Frame]], opened: Callable[[int], tuple[Shot, Window]]
    ) -> Iterator[tuple[Shot, Window, int]]:
        """Yield the shot and the window of each piece, with all its frames, and the index of its span.

        `frames` returns the frames of a range; `opened` returns a new shot and a window that begins at a frame.
        """
        waiting, begun = deque(sorted(self._pieces)), list[tuple[Piece, Shot, Window]]()
        if not waiting:
            return
        for frame in frames(range(waiting[0][0], max(stop for _, stop, _ in waiting))):
            while waiting and waiting[0][0] == frame.number:
                begun.append((waiting.popleft(), *opened(frame.number)))
            for (start, _, _), shot, window in begun:
                shot.add(frame, start)
                window.push(frame)
            yield from ((shot, window, piece[2]) for piece, shot, window in begun if frame.number + 1 == piece[1])
            begun = [one for one in begun if frame.number + 1 < one[0][1]]
