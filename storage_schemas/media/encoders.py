"""H.264 encoders: the software one, and those of graphics cards, with the options that make them alike."""

from collections.abc import Callable

import av
import av.error

SOFTWARE = "libx264"


def _x264(quality: int) -> dict[str, str]:
    # without captions, which would travel along; the same bytes on every processor
    return {"crf": str(quality), "preset": "veryfast", "a53cc": "0", "x264-params": "cpu-independent=1"}


def _nvenc(quality: int) -> dict[str, str]:
    return {"rc": "vbr", "cq": str(quality), "b": "0", "preset": "p5", "a53cc": "0"}


def _qsv(quality: int) -> dict[str, str]:
    return {"global_quality": str(quality), "preset": "medium", "a53cc": "0"}


def _videotoolbox(quality: int) -> dict[str, str]:
    # its scale goes up to 100, the best; libavcodec wants 118 times of that, with a flag
    return {"flags": "+qscale", "global_quality": str(118 * max(1, 100 - 2 * quality)), "a53cc": "0"}


def _amf(quality: int) -> dict[str, str]:
    return {"rc": "cqp", "qp_i": str(quality), "qp_p": str(quality)}


OPTIONS: dict[str, Callable[[int], dict[str, str]]] = {
    SOFTWARE: _x264,
    "h264_nvenc": _nvenc,
    "h264_qsv": _qsv,
    "h264_videotoolbox": _videotoolbox,
    "h264_amf": _amf,
}
"""By encoder: its options for a quality like x264's crf. The software one comes first: it alone is repeatable."""


def present(name: str) -> bool:
    """Whether this build of libavcodec has the encoder; whether it works is another question."""
    try:
        return bool(av.Codec(name, "w").is_encoder)
    except av.error.FFmpegError:
        return False
    except ValueError:  # PyAV's own for an unknown codec
        return False
