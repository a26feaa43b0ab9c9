"""Define the H.264 encoders, in software and on graphics cards, with options that give similar quality."""

from collections.abc import Callable

import av
import av.error

SOFTWARE = "libx264"


def _x264(quality: int) -> dict[str, str]:
    # a53cc: no closed captions, which would be copied; cpu-independent: the same bytes on every processor
    return {"crf": str(quality), "preset": "veryfast", "a53cc": "0", "x264-params": "cpu-independent=1"}


def _nvenc(quality: int) -> dict[str, str]:
    return {"rc": "vbr", "cq": str(quality), "b": "0", "preset": "p5", "a53cc": "0"}


def _qsv(quality: int) -> dict[str, str]:
    return {"global_quality": str(quality), "preset": "medium", "a53cc": "0"}


def _videotoolbox(quality: int) -> dict[str, str]:
    # its quality scale ends at 100, the best; libavcodec expects 118 times that value, and the flag qscale
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
"""Options by encoder, for a quality on the scale of x264's crf. Only the first one, in software, is deterministic."""


def present(name: str) -> bool:
    """Return whether this build of libavcodec contains the encoder; `check_encoder` tests whether it works."""
    try:
        return bool(av.Codec(name, "w").is_encoder)
    except av.error.FFmpegError:
        return False
    except ValueError:  # raised by PyAV for an unknown codec
        return False
