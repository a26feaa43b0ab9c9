"""Cut spans from a file by copying packets without re-encoding, if the file already has the format of clips."""

import io
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate

import av

from opendimo.storage_schemas.media import image_sequence
from opendimo.storage_schemas.media.colour import RGB_MATRIX, Colours
from opendimo.storage_schemas.media.opening import Source, decoded, opened, pixel_aspect
from opendimo.storage_schemas.media.orientation import orientation

Size = tuple[int, int]  # width, height


@dataclass(frozen=True)
class Copyable:
    """A file whose packets may be copied.

    `borders` are the frame numbers at which a span may begin or end. Frame k is shown at `first + k * step` (in the
    stream's time base).
    """

    source: Source
    borders: frozenset[int]
    first: int
    step: Fraction

    def holds(self, span: range) -> bool:
        """Return whether `span` can be cut out."""
        return span.start in self.borders and span.stop in self.borders

    def copy(self, span: range) -> bytes:
        """Return the bytes of an MP4 file with the packets of `span` (frames), not re-encoded, without audio."""
        begin, end = (self.first + round(k * self.step) for k in (span.start, span.stop))
        half, buffer = float(self.step) / 2, io.BytesIO()
        with opened(self.source) as (container, stream), av.open(buffer, "w", format="mp4") as out:
            copied = out.add_stream_from_template(stream)
            container.seek(begin, stream=stream)
            for packet in container.demux(stream):
                if packet.pts is None or packet.dts is None or packet.pts < begin - half:
                    continue
                if packet.pts > end - half:
                    if packet.is_keyframe:
                        break
                    continue
                packet.pts, packet.dts, packet.stream = packet.pts - begin, packet.dts - begin, copied
                out.mux(packet)
        return buffer.getvalue()


def copyable(source: Source, size: Size, fps: Fraction) -> Copyable | None:
    """Return at which frames packets of a file may be copied, or None if the file does not qualify.

    A file qualifies if it is H.264 with 8 bits in 4:2:0, progressive, upright, in SDR, has square pixels, this `size`
    and the constant rate `fps`. Reads all packets and decodes one frame. Raises `ValueError` like `probe`.
    """
    if image_sequence.is_pattern(source):
        return None
    with opened(source) as (container, stream):
        context, aspect = stream.codec_context, pixel_aspect(stream)
        matches = context.name == "h264" and context.pix_fmt in ("yuv420p", "yuvj420p") and aspect == 1
        if not matches or (stream.width, stream.height) != size or stream.time_base is None:
            return None
        first = next(decoded(container, stream), None)
        if first is None or first.interlaced_frame or orientation(first) != (0, False):
            return None
        colours = Colours.of(first)
        if not colours.is_sdr or colours.matrix == RGB_MATRIX:  # wrong on YUV
            return None
        container.seek(0)
        packets = [(p.pts, p.is_keyframe) for p in container.demux(stream) if p.size]
        step = 1 / (fps * stream.time_base)
    return _borders(source, packets, step)


def _borders(source: Source, packets: list[tuple[int | None, bool]], step: Fraction) -> Copyable | None:
    """Find the borders: the end, and every key frame that separates the stream: all packets before it are shown before
    it, and all packets after it are shown after it. Return None if the frame rate is not constant."""
    times = [pts for pts, _ in packets if pts is not None]
    if not times or len(times) < len(packets):
        return None
    shown = sorted(times)
    if any(abs(pts - shown[0] - k * step) > step / 4 for k, pts in enumerate(shown)):
        return None
    before = [shown[0] - 1, *accumulate(times, max)]
    after = [*reversed(list(accumulate(reversed(times), min))), shown[-1] + 1][1:]
    numbers = {pts: k for k, pts in enumerate(shown)}
    borders = {
        numbers[pts]
        for (pts, is_key), low, high in zip(packets, before, after, strict=False)
        if pts is not None and is_key and low < pts < high
    }
    return Copyable(source, frozenset({*borders, len(shown)}), shown[0], step)
