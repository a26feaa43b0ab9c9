"""Choose the reference of a target: frame 0 of its own window, or of another window of the same clip.

At inference the reference of mode `prefix` shows another pose than the first frame. Another window of the target clip
shows the same person and scene in another pose. A causal VAE encodes latent frame 0 from frame 0 alone, so that no
further latents are needed. If the camera moves, another window shows another part of the scene and would contradict the
target's camera: then the reference stays frame 0 of the target's window.
"""

import logging

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from opendimo.training.release import Pairs, Release

logger = logging.getLogger(__name__)
STILL_TERMS = ("static", "shake")
"""Camera terms of a camera that neither moves, turns nor zooms."""


class References:
    """Draw references among the windows of `pairs`: other windows only of clips with a static camera."""

    def __init__(self, pairs: Pairs, still: pa.Array, share: float) -> None:
        """`still`: ids of clips with a static camera; `share`: share of the samples that get another window, if any."""
        self._latents, self._share = pairs.texts("latent_id"), share
        self._window = pairs.codes("latent_id")  # window of each pair
        _, first = np.unique(self._window, return_index=True)  # one pair of each window
        clips = pairs.codes("target_clip_id")[first]  # clip of each window
        self._by_clip = np.lexsort((pairs.numbers("target_start")[first], clips))  # windows, sorted by clip and start
        self._index = np.empty_like(self._by_clip)  # index of each window in `_by_clip`
        self._index[self._by_clip] = np.arange(len(first))
        self._start = np.searchsorted(clips[self._by_clip], clips)  # index in `_by_clip` at which its clip begins
        is_still = pc.is_in(pairs.texts("target_clip_id"), value_set=still).to_numpy(zero_copy_only=False)
        if len(first):
            windows_of_clip = np.bincount(clips, minlength=len(is_still))
            self._count = np.where(is_still[clips], windows_of_clip[clips], 1)  # eligible windows for each window
        else:
            self._count = clips

    def draw(self, rows: NDArray[np.integer], step: int, seed: int) -> list[str]:
        """Return the latents whose frame 0 is the reference of each pair of a batch; depends on (seed, step, slot)."""
        chances, picks = np.random.default_rng([seed, step, *b"reference"]).random((2, len(rows)))
        window = self._window[rows]
        others = self._count[window] - 1
        pick = (picks * others).astype(np.int64)  # index among the other windows of the clip
        index = self._start[window] + pick
        index += index >= self._index[window]  # skip the pair's own window
        other = self._by_clip[np.minimum(index, len(self._by_clip) - 1)]
        chosen = np.where((chances < self._share) & (others > 0), other, window)
        return [str(latent) for latent in self._latents.take(pa.array(chosen)).to_pylist()]


def still_clips(release: Release) -> pa.Array:
    """Return the ids of clips with a static camera: all camera terms of all their captions are in `STILL_TERMS`.

    Empty, with a logged warning, if the captions of the release cannot be read.
    """
    try:
        captions = release.scan("captions", ["clip_id", "camera_terms"])
    except (KeyError, ValueError, OSError) as error:
        logger.warning("the captions cannot be read (%s): every reference is frame 0 of its target", error)
        return pa.array([], pa.string())
    clips, terms = (captions[name].combine_chunks() for name in ("clip_id", "camera_terms"))
    term_clips = clips.take(pc.list_parent_indices(terms))  # clip of each term
    is_still = pc.is_in(pc.struct_field(pc.list_flatten(terms), "term"), value_set=pa.array(STILL_TERMS))
    described = pc.unique(term_clips)
    return described.filter(pc.invert(pc.is_in(described, value_set=term_clips.filter(pc.invert(is_still)))))
