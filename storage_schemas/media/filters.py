"""Filter frames with libavfilter."""

from collections.abc import Iterator
from fractions import Fraction

from av.error import EOFError as EndOfFrames
from av.filter import Graph
from av.video.frame import VideoFrame

DEINTERLACE = [("bwdif", "mode=send_frame:deint=interlaced")]


class Chain:
    """A chain of filters, given as (name, arguments). It is built when the first frame is pushed."""

    def __init__(self, steps: list[tuple[str, str]]) -> None:
        self._steps = steps
        self._graph: Graph | None = None

    def push(self, frame: VideoFrame) -> Iterator[VideoFrame]:
        """Push a frame, and yield the frames that are ready; filters may delay frames."""
        if not self._steps:
            yield frame
            return
        self._graph = self._graph or self._build(frame)
        self._graph.vpush(frame)
        yield from self._pull(self._graph)

    def flush(self) -> Iterator[VideoFrame]:
        """Yield the frames that are still in the chain."""
        if self._graph is not None:
            self._graph.vpush(None)
            yield from self._pull(self._graph)

    def _build(self, frame: VideoFrame) -> Graph:
        graph = Graph()
        last = graph.add_buffer(
            width=frame.width,
            height=frame.height,
            format=frame.format,
            time_base=frame.time_base or Fraction(1, 1_000_000),
        )
        for name, arguments in [*self._steps, ("buffersink", "")]:
            following = graph.add(name, arguments)
            last.link_to(following)
            last = following
        graph.configure()
        return graph

    @staticmethod
    def _pull(graph: Graph) -> Iterator[VideoFrame]:
        while True:
            try:
                yield graph.vpull()
            except (BlockingIOError, EndOfFrames):
                return
