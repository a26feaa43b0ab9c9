"""Rates and aspect ratios that cannot be true are errors of the file, never bugs."""

from fractions import Fraction
from pathlib import Path

import av
import pytest

from opendimo.pipelines.clips.cut import ClipsConfig, clips_of
from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.sources import SourcesConfig, SourcesStage, discover
from opendimo.storage_schemas.media import video
from opendimo.storage_schemas.media.probing import frame_rate
from tests.pipelines.clip_sources import source_row

W, H = 64, 48


def y4m(path: Path, rate: str, aspect: str = "1:1") -> Path:
    """Write raw frames with a header that states a rate and the aspect ratio of pixels."""
    header = f"YUV4MPEG2 W{W} H{H} F{rate} Ip A{aspect} C420jpeg\n".encode()
    path.write_bytes(header + 3 * (b"FRAME\n" + bytes(range(256)) * (W * H * 3 // 2 // 256)))
    return path


@pytest.mark.parametrize(
    "rate", [Fraction(1, 100_000), Fraction(1, 2**31), Fraction(-25), Fraction(2**31), Fraction(1, 101)]
)
def test_an_absurd_rate_is_an_error(rate: Fraction) -> None:
    with pytest.raises(ValueError, match="frames per second: re-encode it"):
        frame_rate(rate, None)


@pytest.mark.parametrize("stated", [(None, None), (Fraction(0), None), (None, Fraction(0)), ()])
def test_no_rate_is_an_error(stated: tuple[Fraction | None, ...]) -> None:
    with pytest.raises(ValueError, match="the video has no frame rate"):
        frame_rate(*stated)


@pytest.mark.parametrize(
    ("stated", "right"),
    [((None, Fraction(25)), 25), ((Fraction(0), Fraction(24)), 24), ((Fraction(1, 100), None), Fraction(1, 100)),
     ((Fraction(30000, 1001), Fraction(30)), Fraction(30000, 1001)), ((Fraction(29970001, 1_000_001), None), None)],
)  # fmt: skip
def test_other_rates_are_kept(stated: tuple[Fraction | None, ...], right: Fraction | None) -> None:
    rate = frame_rate(*stated)
    assert rate == right if right else (rate.denominator <= 10_000 and abs(rate - stated[0]) < 1e-6)


@pytest.mark.parametrize(
    ("rate", "aspect", "problem"),
    [("1:100000", "1:1", "1e-05 frames per second"), ("1:2147483647", "1:1", "frames per second"),
     ("2147483647:1", "1:1", "frames per second"), ("25:1", "1:100000", "pixels of 1:100000"),
     ("25:1", "100000:1", "pixels of 100000:1")],
)  # fmt: skip
def test_such_a_file_is_rejected_at_the_door(tmp_path: Path, rate: str, aspect: str, problem: str) -> None:
    path = y4m(tmp_path / "a.avi", rate, aspect)  # the reader goes by the contents
    with pytest.raises(ValueError, match=problem):
        video.probe(path)


def test_a_rejected_video_is_a_data_error(tmp_path: Path) -> None:
    slow = tmp_path / "a.mkv"
    with av.open(str(slow), "w") as container:
        stream = container.add_stream("ffv1", rate=Fraction(1, 50_000))
        stream.width, stream.height, stream.pix_fmt = W, H, "yuv420p"
        for k in range(3):
            frame = av.VideoFrame(W, H, "yuv420p")
            frame.pts, frame.time_base = k, Fraction(50_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    config = SourcesConfig()
    outcome = SourcesStage("lake", config).run(discover("internet", slow, config))
    [reject] = outcome.rejects
    assert reject.error_class == "data" and "frames per second" in reject.message


@pytest.mark.parametrize("stored", [(0, 1), (25, 0)])
def test_a_stored_rate_of_zero_is_an_error_of_the_source(tmp_path: Path, stored: tuple[int, int]) -> None:
    row = source_row(y4m(tmp_path / "a.y4m", "25:1"), fps_num=stored[0], fps_den=stored[1])
    with pytest.raises(DataError, match="no frame rate"):
        clips_of(row, ClipsConfig(), detector=None)  # type: ignore[arg-type]
