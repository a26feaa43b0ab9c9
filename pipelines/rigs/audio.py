"""Estimate time offsets from audio: the envelopes of two recordings of one event match at one lag."""

import itertools

import av
import numpy as np
from scipy.signal import correlate, correlation_lags

from opendimo.pipelines.rigs.offsets import Offsets, settle
from opendimo.pipelines.rigs.views import Array, RigView
from opendimo.storage_schemas.media.image_sequence import is_pattern
from opendimo.storage_schemas.media.opening import opened

RATE = 8000
"""Audio sample rate after resampling, Hz."""
ENVELOPE = 200
"""Rate of the onset envelope, values per second."""
SECONDS = 120.0
"""Seconds of audio that are read. Audio that starts further than this from the first frame is ignored."""
REACH = 30.0
"""Largest lag that is searched, seconds."""
ALIKE = 0.35
"""Minimum normalised correlation of two envelopes at their best lag."""


def from_audio(views: list[RigView]) -> Offsets | None:
    """Estimate the offsets of views that all recorded audio of one event; return None otherwise."""
    envelopes = [onsets(view.path) for view in views]
    if any(envelope is None for envelope in envelopes):
        return None
    pairs = np.full((len(views), len(views)), np.nan)
    for a, b in itertools.permutations(range(len(views)), 2):
        lag = _lag(envelopes[a], envelopes[b])
        if lag is not None:
            pairs[a, b] = lag * views[a].fps
    return settle("audio", pairs)


def onsets(path: str) -> Array | None:
    """Return the onset envelope (rise of the log power) at `ENVELOPE` Hz, starting at the first video frame.

    None if there is no audio, or too little of it.
    """
    if is_pattern(path):
        return None
    try:
        with opened(path) as (container, pictures):
            if not container.streams.audio:
                return None
            shift = _start(container.streams.audio[0]) - _start(pictures)
            if abs(shift) > SECONDS:
                return None
            resampler = av.AudioResampler("s16", "mono", RATE)
            blocks, count = [], 0
            for frame in container.decode(container.streams.audio[0]):
                for part in resampler.resample(frame):
                    blocks.append(part.to_ndarray()[0].astype(np.float64) / 32768)
                    count += len(blocks[-1])
                if count > SECONDS * RATE:
                    break
    except ValueError:
        return None
    sound = np.concatenate([np.zeros(max(0, round(shift * RATE))), *blocks])[max(0, round(-shift * RATE)) :]
    hop = RATE // ENVELOPE
    sound = sound[: len(sound) // hop * hop]
    if len(sound) < 2 * ENVELOPE * hop or not sound.any():
        return None
    power = np.log(1e-8 + (np.diff(sound, prepend=0).reshape(-1, hop) ** 2).mean(1))
    rise = np.maximum(np.diff(power, prepend=power[0]), 0)
    return np.asarray(rise - rise.mean())


def _start(stream: "av.VideoStream | av.AudioStream") -> float:
    return float((stream.start_time or 0) * stream.time_base) if stream.time_base else 0.0


def _lag(a: Array | None, b: Array | None) -> float | None:
    """Return the seconds by which envelope `a` is later than `b`; None if no lag has enough correlation."""
    assert a is not None and b is not None
    match = correlate(a, b, method="fft")
    lags = correlation_lags(len(a), len(b))
    inside = abs(lags) <= REACH * ENVELOPE
    match, lags = match[inside], lags[inside]
    k = int(np.argmax(match))
    if match[k] < ALIKE * np.linalg.norm(a) * np.linalg.norm(b) or k in (0, len(match) - 1):
        return None
    before, here, after = match[k - 1 : k + 2]
    bend = before - 2 * here + after
    return float(lags[k] + (0.5 * (before - after) / bend if bend < 0 else 0)) / ENVELOPE
