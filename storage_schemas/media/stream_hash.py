"""What a video stream is, whatever container it lies in."""

import hashlib
from collections.abc import Iterator

from av.bitstream import BitStreamFilterContext
from av.packet import Packet

from opendimo.storage_schemas.media.opening import Source, opened

START_CODES = {"h264": "h264_mp4toannexb", "hevc": "hevc_mp4toannexb"}
"""Codecs whose packets are written in two ways (lengths in MP4 and Matroska, start codes in MPEG-TS and AVI), and the
filter that makes them one."""


def stream_sha256(source: Source) -> str:
    """Hex SHA-256 of the coded pictures of a video: the same after a re-mux into another container.

    Decodes nothing. Headers (parameter sets, delimiters, messages) do not count: containers repeat or drop them.
    Raises `ValueError` as `opened` does.
    """
    digest = hashlib.sha256()
    with opened(source) as (container, stream):
        codec = stream.codec_context.name
        known = START_CODES.get(codec)
        whole = BitStreamFilterContext(known, stream) if known else None
        for packet in container.demux(stream):
            if packet.size:
                for part in whole.filter(packet) if whole else [packet]:
                    for unit in _pictures(part, codec):
                        digest.update(unit)
    return digest.hexdigest()


def _pictures(packet: Packet, codec: str) -> Iterator[bytes]:
    """The units of a packet that hold pictures; of other codecs than H.264 and HEVC the packet."""
    data = bytes(packet)
    if codec not in START_CODES:
        yield data
        return
    for unit in filter(None, data.split(b"\x00\x00\x01")[1:]):  # the payload never holds a start code
        kind = unit[0] & 0x1F if codec == "h264" else unit[0] >> 1 & 0x3F
        if 1 <= kind <= 5 if codec == "h264" else kind < 32:
            yield unit.rstrip(b"\x00")
