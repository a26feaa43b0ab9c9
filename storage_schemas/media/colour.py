"""Name the colours of pictures by their tags (ITU-T H.273), and find out which have to be converted to SDR."""

from dataclasses import dataclass

from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, ColorTrc

HLG, PQ = int(ColorTrc.ARIB_STD_B67), int(ColorTrc.SMPTE2084)
BT2020, P3 = int(ColorPrimaries.BT2020), int(ColorPrimaries.SMPTE432)
UNSPECIFIED = 2  # in all three lists of H.273
RGB_MATRIX = 0
BT2020_MATRIX = 9  # with non-constant luminance
UNKNOWN_MATRICES = {8: "YCgCo", 10: "BT.2020 with constant luminance", 11: "Y'D'zD'x", 12: "derived from primaries",
                    13: "derived from primaries, with constant luminance", 14: "ICtCp"}  # fmt: skip
"""Matrices that libswscale does not know."""
DOLBY_VISION = (Type.DOVI_METADATA, Type.DOVI_RPU_BUFFER)


class UnknownColours(ValueError):
    """The colours of a video cannot be converted."""


@dataclass(frozen=True)
class Colours:
    """The tags of a picture: numbers of H.273, and whether its values have the full range."""

    transfer: int
    primaries: int
    matrix: int
    full_range: bool

    @classmethod
    def of(cls, frame: VideoFrame) -> "Colours":
        """Read the tags of a frame.

        Raises `UnknownColours` for rare matrices, and for Dolby Vision without a base layer in HLG, PQ or SDR.
        """
        transfer, matrix = int(frame.color_trc), int(frame.colorspace)
        if matrix in UNKNOWN_MATRICES and not frame.format.is_rgb:
            name = UNKNOWN_MATRICES[matrix]
            raise UnknownColours(f"the colour matrix {name} cannot be converted: export the video in BT.709")
        if transfer == UNSPECIFIED and any(kind in frame.side_data for kind in DOLBY_VISION):
            raise UnknownColours("Dolby Vision of profile 5 cannot be converted: export the video as HDR10, HLG or SDR")
        full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj") or frame.format.is_rgb
        return cls(transfer, int(frame.color_primaries), matrix, full)

    @property
    def is_hdr(self) -> bool:
        """Whether the transfer function is HLG or PQ."""
        return self.transfer in (HLG, PQ)

    @property
    def is_sdr(self) -> bool:
        """Whether the picture is SDR with about the gamut of BT.709 (BT.601 as well), so that nothing is converted."""
        return not self.is_hdr and self.primaries not in (BT2020, P3) and self.matrix != BT2020_MATRIX


def transfer_name(frame: VideoFrame) -> str:
    """Return the transfer function as FFmpeg names it: bt709, arib-std-b67 (HLG), smpte2084 (PQ), unspecified, ..."""
    return _name(ColorTrc, int(frame.color_trc))


def primaries_name(frame: VideoFrame) -> str:
    """Return the colour primaries as FFmpeg names them: bt709, bt2020, smpte432 (P3), unspecified, ..."""
    return _name(ColorPrimaries, int(frame.color_primaries))


def range_name(frame: VideoFrame) -> str:
    """Return the range of the values: limited (16 to 235 in 8 bits), full, or unspecified."""
    if Colours.of(frame).full_range:
        return "full"
    return "limited" if frame.color_range == ColorRange.MPEG else "unspecified"


def _name(names: type[ColorTrc] | type[ColorPrimaries], number: int) -> str:
    try:
        return names(number).name.lower().replace("_", "-")
    except ValueError:
        return f"reserved-{number}"
