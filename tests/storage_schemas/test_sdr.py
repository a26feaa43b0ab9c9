"""HDR and wide gamuts become SDR of BT.709: values by the standards, every codec, range and bit depth."""

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext

from opendimo.storage_schemas.media import video
from opendimo.storage_schemas.media.sdr import to_sdr

W, H = 64, 48
HLG, PQ, SDR = 18, 16, 1
BT709_TO_BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])  # BT.2087
TAGS = "color_range", "colorspace", "color_primaries", "color_trc"


def pq(nits: np.ndarray) -> np.ndarray:
    """Encode light as PQ, with the rational constants of SMPTE ST 2084."""
    y = (np.asarray(nits) / 10_000) ** (2610 / 4096 / 4)
    return ((3424 / 4096 + 2413 / 4096 * 32 * y) / (1 + 2392 / 4096 * 32 * y)) ** (2523 / 4096 * 128)


def hlg(nits: np.ndarray) -> np.ndarray:
    """Encode the light [..., 3] of a display of 1000 cd/m2 as HLG (BT.2100: inverse OOTF, OETF)."""
    light = np.asarray(nits) / 1000
    luminance = light @ [0.2627, 0.6780, 0.0593]
    scene = light * np.maximum(luminance, 1e-9)[..., None] ** (1 / 1.2 - 1)
    a, b = 0.17883277, 1 - 4 * 0.17883277
    c = 0.5 - a * np.log(4 * a)
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c)


def gamma(nits: np.ndarray) -> np.ndarray:
    return (np.asarray(nits) / 100) ** (1 / 2.4)


ENCODE = {HLG: hlg, PQ: pq, SDR: gamma}


def yuv(signal: np.ndarray, bits: int, full: bool, weights: tuple[float, float] = (0.2627, 0.0593)) -> list[np.ndarray]:
    """Return the planes, 4:4:4, of a signal [H, W, 3] from 0 to 1 (BT.2100, table 9)."""
    red, blue = weights
    r, g, b = np.moveaxis(signal, -1, 0)
    y = red * r + (1 - red - blue) * g + blue * b
    planes = [y, (b - y) / 2 / (1 - blue), (r - y) / 2 / (1 - red)]
    shift, most = 1 << (bits - 8), (1 << bits) - 1
    scales = [(most, 0), (most, 128 * shift)] if full else [(219 * shift, 16 * shift), (224 * shift, 128 * shift)]
    return [
        np.round(plane * scale + offset) for plane, (scale, offset) in zip(planes, [*scales, scales[1]], strict=True)
    ]


def frame_of(nits: np.ndarray, transfer: int, pixels: str = "yuv444p10le", full: bool = False) -> av.VideoFrame:
    """Return a frame of light [H, W, 3] in cd/m2, of the primaries of BT.2020."""
    bits = {"p": 8, "e": int(pixels[-4:-2]) if pixels.endswith("le") else 8}[pixels[-1]]
    planes = yuv(ENCODE[transfer](nits), bits, full)
    layout = "yuv444p" if bits == 8 else f"yuv444p{bits}le"
    frame = av.VideoFrame(nits.shape[1], nits.shape[0], layout)
    for plane, values in zip(frame.planes, planes, strict=True):
        kind = np.uint8 if bits == 8 else np.uint16
        rows = np.zeros((frame.height, plane.line_size // np.dtype(kind).itemsize), kind)
        rows[:, : frame.width] = values
        plane.update(rows.tobytes())
    range_ = 2 if full else 1
    frame = frame.reformat(format=pixels, src_color_range=range_, dst_color_range=range_) if pixels != layout else frame
    for name, value in zip(TAGS, (range_, 9, 9, transfer), strict=True):
        setattr(frame, name, value)
    return frame


def flat(*nits: float) -> np.ndarray:
    """Return a picture [H, W, 3] of one colour, or of one grey."""
    return np.broadcast_to(np.array(nits if len(nits) == 3 else nits * 3), (H, W, 3)).astype(float)


def write(path: Path, codec: str, frame: av.VideoFrame, count: int = 3, **options: str) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, frame.format.name
        for name in TAGS:
            setattr(stream.codec_context, name, getattr(frame, name))
        for k in range(count):
            frame.pts, frame.time_base = k, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def wanted(path: Path, **changes: object) -> video.Wanted:
    info = video.probe(path)
    size = (info.width, info.height)
    turns = {"rotation": info.rotation, "mirrored": info.mirrored}
    return video.Wanted(**{"stated": size, "size": size, **turns, **changes})


# values


@pytest.mark.parametrize(("transfer", "signal"), [(HLG, 0.38), (PQ, 0.38)])
def test_a_grey_card_stays_as_bright(transfer: int, signal: float) -> None:
    """BT.2408, table 1: the grey card of 18 % is at 38 % in HLG and PQ, 26 cd/m2."""
    frame = frame_of(flat(26), transfer)
    assert abs(float(ENCODE[transfer](flat(26))[0, 0, 0]) - signal) < 0.005
    converted = to_sdr(frame)
    assert np.abs(converted.image.astype(int) - round(255 * 0.26 ** (1 / 2.4))).max() <= 1
    assert converted.outside == 0


@pytest.mark.parametrize("transfer", [HLG, PQ])
def test_white_is_compressed_and_counted(transfer: int) -> None:
    values = {nits: to_sdr(frame_of(flat(nits), transfer)) for nits in (100, 203, 400, 1000)}
    greys = [int(converted.image[0, 0, 0]) for converted in values.values()]
    assert greys == sorted(set(greys)) and greys[-1] == 255
    assert abs(greys[1] - 242) <= 2  # BT.2390's curve for 1000 to 100 cd/m2 at the reference white of BT.2408
    assert [converted.outside for converted in values.values()][1:] == [1, 1, 1]


@pytest.mark.parametrize("transfer", [HLG, PQ, SDR])
@pytest.mark.parametrize("colour", [(20, 0, 0), (0, 20, 0), (0, 0, 20), (20, 18, 0), (5, 10, 20)])
def test_colours_of_bt709_come_back(transfer: int, colour: tuple[float, ...]) -> None:
    wide = np.maximum(flat(*colour) @ BT709_TO_BT2020.T, 0)
    converted = to_sdr(frame_of(wide, transfer, "yuv444p12le"))
    right = np.round(255 * (np.array(colour) / 100) ** (1 / 2.4))
    assert np.abs(converted.image.astype(int) - right)[..., right > 0].max() <= 2
    assert converted.image[..., right == 0].max(initial=0) <= 12  # 1e-3 of the light
    assert converted.outside == 0


def test_a_colour_that_bt709_lacks_is_counted() -> None:
    picture = flat(10)
    picture[:, : W // 4] = (0, 20, 0)  # green of BT.2020
    assert to_sdr(frame_of(picture, PQ)).outside == 0.25


# files


def ramp() -> np.ndarray:
    """Return a picture [H, W, 3] of greys from 0.5 to 25 cd/m2."""
    return np.repeat(np.tile(np.linspace(0.5, 25, W), (H, 1))[..., None], 3, 2)


FILES = [
    ("hevc.mp4", "libx265", "yuv420p10le", {"x265-params": "crf=4:log-level=none"}),
    ("hevc12.mkv", "libx265", "yuv422p12le", {"x265-params": "crf=4:log-level=none"}),
    ("h264.mov", "libx264", "yuv420p10le", {"crf": "4"}),
    ("h264_8.mp4", "libx264", "yuv420p", {"crf": "4"}),
    ("vp9.webm", "libvpx-vp9", "yuv420p", {"crf": "4", "b": "0"}),
    ("av1.mp4", "libsvtav1", "yuv420p10le", {"crf": "8"}),
    ("prores.mov", "prores_ks", "yuv422p10le", {"profile": "3"}),
    ("lossless.mkv", "ffv1", "yuv444p12le", {}),
]


# ProRes has the limited range only
RANGES = [(file, full) for file in FILES for full in (False, True) if not (full and file[1] == "prores_ks")]


@pytest.mark.parametrize(("file", "full"), RANGES, ids=[f"{file[0]}-{full}" for file, full in RANGES])
@pytest.mark.parametrize("transfer", [HLG, PQ, SDR])
def test_every_reader_gets_sdr(
    tmp_path: Path, file: tuple[str, str, str, dict[str, str]], transfer: int, full: bool
) -> None:
    name, codec, pixels, options = file
    path = write(tmp_path / name, codec, frame_of(ramp(), transfer, pixels, full), **options)
    info = video.probe(path)
    assert (info.transfer, info.primaries) == ({HLG: "arib-std-b67", PQ: "smpte2084", SDR: "bt709"}[transfer], "bt2020")
    assert info.range == ("full" if full else "limited")
    right = 255 * (ramp() / 100) ** (1 / 2.4)
    inside = np.s_[:, 4:-4]  # pictures are filtered at their borders
    far = 8 if pixels == "yuv420p" else 4  # 8 bits are few for HDR
    assert np.abs(next(video.frames(path)) - right)[inside].max() <= far
    assert np.abs(video.decode(path, stop=2)[1] - right)[inside].max() <= far
    encoder = video.Encoder(Fraction(25), video.Encoding(crf=4))
    for picture in video.pictures(path, wanted(path)):
        assert picture.format.name == "yuv420p" and picture.opaque == 0
        encoder.push(picture)
    stored = encoder.finish()
    with av.open(io.BytesIO(stored)) as container:
        frame = next(container.decode(video=0))
        assert frame.format.name == "yuv420p" and [getattr(frame, tag) for tag in TAGS] == [1, 1, 1, 1]
    assert np.abs(video.decode(stored)[0] - right)[inside].max() <= far + 2
    assert video.copyable(path, (W, H), info.fps) is None


def test_conversion_comes_with_cropping_turning_and_scaling(tmp_path: Path) -> None:
    picture = flat(10)
    picture[: H // 2, : W // 2] = 400
    path = write(tmp_path / "a.mkv", "ffv1", frame_of(picture, HLG, "yuv420p10le"))
    changes = {"stated": (H, W), "rotation": 90, "region": (8, 16, 48, 64), "size": (20, 24)}
    read = next(video.pictures(path, wanted(path, **changes)))
    image = video.to_rgb(read)
    assert image.shape == (24, 20, 3) and image[:6, 10:].mean() > 200 and image[10:].mean() < 110
    assert 0.1 < read.opaque < 0.3
    assert [getattr(read, tag) for tag in TAGS] == [1, 1, 1, 1]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_tags_that_only_the_container_has_count(tmp_path: Path, name: str) -> None:
    tagged = write(tmp_path / "tagged.mp4", "libx264", frame_of(ramp(), PQ, "yuv420p10le"), crf="4")
    path, unspecified = tmp_path / name, "colour_primaries=2:transfer_characteristics=2:matrix_coefficients=2"
    with av.open(str(tagged)) as read, av.open(str(path), "w") as written:
        stream = read.streams.video[0]
        out = written.add_stream_from_template(stream)
        without_tags = BitStreamFilterContext(f"h264_metadata={unspecified}", stream, out)
        for packet in read.demux(stream):
            for part in without_tags.filter(packet if packet.size else None):
                part.stream = out
                written.mux(part)
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).color_trc == 2  # the decoder does not know
    info = video.probe(path)
    assert (info.transfer, info.primaries) == ("smpte2084", "bt2020")
    right = 255 * (ramp() / 100) ** (1 / 2.4)
    assert np.abs(next(video.frames(path)) - right)[:, 4:-4].max() <= 4


def test_sdr_keeps_its_values_and_tags(tmp_path: Path) -> None:
    frame = av.VideoFrame.from_ndarray(np.full((H, W, 3), 90, np.uint8), format="rgb24").reformat(format="yuv420p")
    for name, value in zip(TAGS, (1, 6, 6, 6), strict=True):
        setattr(frame, name, value)
    path = write(tmp_path / "a.mp4", "libx264", frame, qp="0")
    read = next(video.pictures(path, wanted(path)))
    assert [getattr(read, tag) for tag in TAGS] == [1, 6, 6, 6] and read.opaque is None
    assert np.array_equal(read.to_ndarray(), frame.to_ndarray())
    assert video.copyable(path, (W, H), Fraction(25)) is not None


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "libx264rgb"), ("a.mov", "png")])
def test_rgb_is_stored_with_the_matrix_of_its_tags(tmp_path: Path, name: str, codec: str) -> None:
    """H.264 and PNG in RGB have the matrix `RGB`, a wrong tag for a clip in YUV."""
    image = np.full((H, W, 3), (200, 40, 90), np.uint8)
    frame = av.VideoFrame.from_ndarray(image, format="rgb24")
    path = write(tmp_path / name, codec, frame, **({"qp": "0"} if codec == "libx264rgb" else {}))
    encoder = video.Encoder(Fraction(25), video.Encoding(crf=4))
    for picture in video.pictures(path, wanted(path)):
        encoder.push(picture)
    stored = encoder.finish()
    with av.open(io.BytesIO(stored)) as container:
        first = next(container.decode(video=0))
        assert (first.colorspace, first.color_range) == (1, 1)
        y, cb, cr = (np.frombuffer(memoryview(plane), np.uint8)[0] for plane in first.planes)
    right = yuv(image[:1, :1] / 255, 8, False, (0.2126, 0.0722))
    assert np.abs(np.array([y, cb, cr], float) - np.ravel(right)).max() <= 2


@pytest.mark.parametrize(("matrix", "name"), [(8, "YCgCo"), (10, "BT.2020 with constant luminance"), (14, "ICtCp")])
@pytest.mark.parametrize("transfer", [PQ, SDR])
def test_a_matrix_that_is_not_known_is_an_error(tmp_path: Path, transfer: int, matrix: int, name: str) -> None:
    frame = frame_of(flat(20), transfer, "yuv420p10le")
    frame.colorspace = matrix
    path = write(tmp_path / "a.mkv", "ffv1", frame)
    with pytest.raises(ValueError, match=f"the colour matrix {name} cannot be converted"):
        next(video.frames(path))


def test_the_matrix_of_rgb_on_yuv_is_dropped(tmp_path: Path) -> None:
    frame = av.VideoFrame.from_ndarray(np.full((H, W, 3), 90, np.uint8), format="rgb24").reformat(format="yuv420p")
    for name, value in zip(TAGS, (1, 0, 1, 1), strict=True):
        setattr(frame, name, value)
    path = write(tmp_path / "a.mp4", "libx264", frame)
    assert next(video.pictures(path, wanted(path))).colorspace == 2
    assert video.copyable(path, (W, H), Fraction(25)) is None
