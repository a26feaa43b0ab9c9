"""Hash a video stream independently of its container."""

import hashlib
from collections.abc import Iterator

from av.bitstream import BitStreamFilterContext
from av.packet import Packet

from opendimo.storage_schemas.media.opening import Source, opened

START_CODES = {"h264": "h264_mp4toannexb", "hevc": "hevc_mp4toannexb"}
"""The bit stream filter by codec, for codecs with two packet formats (lengths in MP4 and Matroska, start codes in
MPEG-TS and AVI); it converts both to start codes."""


def stream_sha256(source: Source) -> str:
    """Return the hex SHA-256 of the coded pictures of a video, which does not change if it is remuxed.

    Decodes nothing. Headers (parameter sets, delimiters, messages) are ignored, because containers repeat or drop them.
    Raises `ValueError` like `opened`.
    """
    digest = hashlib.sha256()
    with opened(source) as (container, stream):
        codec = stream.codec_context.name
        filter_name = START_CODES.get(codec)
        to_start_codes = BitStreamFilterContext(filter_name, stream) if filter_name else None
        for packet in container.demux(stream):
            if packet.size:
                for part in to_start_codes.filter(packet) if to_start_codes else [packet]:
                    for unit in _pictures(part, codec):
                        digest.update(unit)
    return digest.hexdigest()


def _pictures(packet: Packet, codec: str) -> Iterator[bytes]:
    """Yield the NAL units of a packet that contain coded pictures; for codecs other than H.264 and HEVC, the packet."""
    data = bytes(packet)
    if codec not in START_CODES:
        yield data
        return
    for unit in filter(None, data.split(b"\x00\x00\x01")[1:]):  # the payload never contains a start code
        kind = unit[0] & 0x1F if codec == "h264" else unit[0] >> 1 & 0x3F
        if 1 <= kind <= 5 if codec == "h264" else kind < 32:
            yield unit.rstrip(b"\x00")
