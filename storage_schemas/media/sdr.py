"""Convert pictures in HDR or of a wide gamut to SDR in BT.709, with the same result on every machine.

1. HLG and PQ are decoded to the light of a display of 1000 cd/m2 (BT.2100; system gamma 1.2 for HLG); PQ beyond
   that is clipped. SDR is decoded with gamma 2.4 (BT.1886).
2. HDR is mapped to a white of 100 cd/m2 by the EETF of BT.2390 (section 5.4.1, black at 0): the largest of R, G and B
   follows the curve, the others keep their ratio to it, so hues stay. Metadata of the display that it was graded on is
   ignored, so that all clips follow one curve.
3. The light is converted to the primaries of BT.709, clipped, and encoded with gamma 1 / 2.4 in 8 bits.

Pictures are scaled before, as coded. All else is tables and single operations of IEEE 754 in a fixed order, which no
processor computes differently.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation, VideoReformatter
from numpy.typing import NDArray

from opendimo.storage_schemas.media.colour import BT2020, BT2020_MATRIX, HLG, P3, PQ, UNSPECIFIED, Colours

Array = NDArray[np.float32]
Image = NDArray[np.uint8]
PEAK = 10.0
"""Brightest light that is mapped, in units of the white of SDR, 100 cd/m2."""
STEPS = 65535
"""Last index of the tables."""
GAMMA = 2.4
EXACT = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
"""Scale with the same result on every processor."""
WEIGHTS = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087),
           9: (0.2627, 0.0593)}  # fmt: skip
"""Weights of red and blue in luma, by matrix of H.273; others count as that of BT.2020."""
TO_BT709 = {
    BT2020: ((1.660491, -0.587641, -0.072850), (-0.124550, 1.132900, -0.008349), (-0.018151, -0.100579, 1.118730)),
    P3: ((1.224940, -0.224940, 0.0), (-0.042057, 1.042057, 0.0), (-0.019638, -0.078636, 1.098274)),
}
"""Linear R, G, B to BT.709, by primaries (BT.2087 and SMPTE EG 432-1)."""
OUTSIDE = -0.01
"""Light of a negative primary from which a colour counts as outside BT.709, in units of white."""


@dataclass(frozen=True)
class Converted:
    """A picture in SDR: `image` [H, W, 3] RGB, and the share of its pixels that SDR cannot show: brighter than 100
    cd/m2 or outside BT.709."""

    image: Image
    outside: float


def to_sdr(frame: VideoFrame, size: tuple[int, int] | None = None) -> Converted:
    """Scale a picture to `size` (width, height) and convert it to SDR. Raises `ValueError` like `Colours.of`."""
    colours = Colours.of(frame)
    signal = _signal(frame, colours, size)  # [3, H, W]
    light = np.take(_light(colours.transfer), _index(signal))
    if colours.transfer == HLG:
        luminance = np.float32(0.2627) * light[0] + np.float32(0.678) * light[1] + np.float32(0.0593) * light[2]
        light *= np.take(_system_gain(), _index(np.sqrt(luminance)))
    bright = light.max(0)
    outside = bright > 1
    if colours.is_hdr:
        light *= np.take(_tone_gain(), _index(np.sqrt(bright / np.float32(PEAK))))
    light = _in_bt709(light, colours)
    outside |= light.min(0) < np.float32(OUTSIDE)
    coded = np.take(_coded(), _index(np.sqrt(np.maximum(light, 0))))
    return Converted(np.ascontiguousarray(coded.transpose(1, 2, 0)), float(outside.mean()))


def to_sdr_picture(frame: VideoFrame, size: tuple[int, int]) -> VideoFrame:
    """Return `to_sdr` as a frame in yuv420p, limited range, with tags of BT.709; its `opaque` is the share outside."""
    converted = to_sdr(frame, size)
    rgb = VideoFrame.from_ndarray(converted.image, format="rgb24")
    picture = VideoReformatter().reformat(
        rgb, format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG, interpolation=EXACT,
        threads=1,
    )  # fmt: skip
    picture.colorspace, picture.color_range = Colorspace.ITU709, ColorRange.MPEG
    picture.color_primaries, picture.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
    picture.opaque = converted.outside
    return picture


def _signal(frame: VideoFrame, colours: Colours, size: tuple[int, int] | None) -> Array:
    """Return the coded R, G, B [3, H, W], 0 to 1, of a frame scaled to `size`."""
    layout = "gbrp12le" if frame.format.is_rgb else "yuv444p12le"
    range_ = ColorRange.JPEG if colours.full_range else ColorRange.MPEG
    scaled = VideoReformatter().reformat(
        frame, *(size or (frame.width, frame.height)), layout, interpolation=EXACT, threads=1,
        src_color_range=range_, dst_color_range=range_,
    )  # fmt: skip
    planes = np.stack([_plane(scaled, k) for k in range(3)])
    # fewer bits are shifted to 12
    bits = min(12, frame.format.components[0].bits)
    most = np.float32((1 << 12) - (1 << (12 - bits)))
    if frame.format.is_rgb:
        return planes[[2, 0, 1]] / most
    red, blue = map(np.float32, WEIGHTS.get(colours.matrix, WEIGHTS[BT2020_MATRIX]))
    green = 1 - red - blue
    black, white, span = (0, most, most) if colours.full_range else (256, 3760 - 256, 3584)
    y = (planes[0] - np.float32(black)) / np.float32(white)
    cb, cr = (planes[k] / np.float32(span) - np.float32(2048 / span) for k in (1, 2))
    r, b = y + 2 * (1 - red) * cr, y + 2 * (1 - blue) * cb
    return np.stack([r, (y - red * r - blue * b) / green, b])


def _plane(frame: VideoFrame, number: int) -> Array:
    plane = frame.planes[number]
    values = np.frombuffer(memoryview(plane), "<u2").reshape(-1, plane.line_size // 2)
    return values[: frame.height, : frame.width].astype(np.float32)


def _in_bt709(light: Array, colours: Colours) -> Array:
    wide = BT2020 if colours.primaries == UNSPECIFIED else colours.primaries
    if (matrix := TO_BT709.get(wide)) is None:
        return light
    r, g, b = light
    return np.stack([np.float32(x) * r + np.float32(y) * g + np.float32(z) * b for x, y, z in matrix])


def _index(values: Array) -> NDArray[np.uint16]:
    """Return the index in a table of values from 0 to 1; values beyond are clipped."""
    return (np.clip(values, 0, 1) * np.float32(STEPS) + np.float32(0.5)).astype(np.uint16)


def _steps() -> NDArray[np.float64]:
    return np.arange(STEPS + 1) / STEPS


@lru_cache
def _light(transfer: int) -> Array:
    """Return the light by coded value: in units of the white of SDR, for HLG that of the scene, 0 to 1 (BT.2100)."""
    signal = _steps()
    if transfer == HLG:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    elif transfer == PQ:
        light = np.minimum(from_pq(signal) / 100, PEAK)
    else:
        light = signal**GAMMA
    return light.astype(np.float32)


@lru_cache
def _system_gain() -> Array:
    """Return the light of the display divided by that of the scene, by the root of the scene's luminance (HLG)."""
    return (PEAK * (_steps() ** 2) ** 0.2).astype(np.float32)


@lru_cache
def _tone_gain() -> Array:
    """Return mapped light divided by light, by the root of the light as a share of `PEAK`."""
    light = np.maximum(_steps(), 1 / STEPS) ** 2 * PEAK
    return (eetf(light) / light).astype(np.float32)


@lru_cache
def _coded() -> Image:
    """Return the 8-bit value by the root of the light."""
    return np.round(255 * _steps() ** (2 / GAMMA)).astype(np.uint8)


def eetf(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """Map light from 0 to `PEAK` to 0 to 1, in units of the white of SDR (BT.2390, section 5.4.1)."""
    peak = to_pq(np.float64(100 * PEAK))
    signal, most = to_pq(100 * light) / peak, to_pq(np.float64(100)) / peak
    knee = 1.5 * most - 0.5
    t = np.maximum(signal - knee, 0) / (1 - knee)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * most
    return np.asarray(from_pq(np.where(signal < knee, signal, spline) * peak) / 100)


def to_pq(light: NDArray[np.float64] | np.float64) -> NDArray[np.float64]:
    """Encode light in cd/m2 as PQ, 0 to 1 (SMPTE ST 2084)."""
    power = (light / 10_000) ** (2610 / 16384)
    return np.asarray(((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375)


def from_pq(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Decode PQ, 0 to 1, to light in cd/m2."""
    power = signal ** (1 / 78.84375)
    ratio = np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)
    return np.asarray(10_000 * ratio ** (16384 / 2610))
