"""Which reference a target gets: frame 0 of its own window, or of another window of the same clip.

In the mode `prefix` a reference may show any pose, and in use it does: only another window of the clip shows the same
person and place in another pose. A causal VAE makes latent frame 0 of frame 0 alone, so nothing has to be encoded for
that. Where the camera moves, another window shows another part of the place and would contradict the camera of the
target: there the reference stays frame 0 of the target's own window.
"""

import logging

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from opendimo.training.release import Pairs, Release

logger = logging.getLogger(__name__)
STILL_TERMS = ("static", "shake")
"""Camera terms of a camera that stays where it is and looks where it looked."""


class References:
    """The other windows of target clips whose camera stands still, among the windows of `pairs`."""

    def __init__(self, pairs: Pairs, still: pa.Array, share: float) -> None:
        """`still`: ids of such clips; `share` of the samples that get another window, where there is one."""
        self._latents, self._share = pairs.texts("latent_id"), share
        self._window = pairs.codes("latent_id")  # of each pair
        _, first = np.unique(self._window, return_index=True)  # a pair of each window
        clips = pairs.codes("target_clip_id")[first]  # of each window
        self._by_clip = np.lexsort((pairs.numbers("target_start")[first], clips))  # windows, clip by clip
        self._place = np.empty_like(self._by_clip)
        self._place[self._by_clip] = np.arange(len(first))
        self._start = np.searchsorted(clips[self._by_clip], clips)  # of each window: where its clip begins in `by_clip`
        may = pc.is_in(pairs.texts("target_clip_id"), value_set=still).to_numpy(zero_copy_only=False)
        self._count = np.where(may[clips], np.bincount(clips, minlength=len(may))[clips], 1) if len(first) else clips

    def draw(self, rows: NDArray[np.integer], step: int, seed: int) -> list[str]:
        """The latents whose frame 0 is the reference of each pair of a batch, from (seed, step, slot) alone."""
        chances, picks = np.random.default_rng([seed, step, *b"reference"]).random((2, len(rows)))
        own = self._window[rows]
        others = self._count[own] - 1
        pick = (picks * others).astype(np.int64)  # among the others
        place = self._start[own] + pick
        place += place >= self._place[own]
        other = self._by_clip[np.minimum(place, len(self._by_clip) - 1)]
        chosen = np.where((chances < self._share) & (others > 0), other, own)
        return [str(latent) for latent in self._latents.take(pa.array(chosen)).to_pylist()]


def still_clips(release: Release) -> pa.Array:
    """Ids of the clips whose camera stands still by all camera terms of all their captions; none where the release has
    no captions that can be read."""
    try:
        captions = release.scan("captions", ["clip_id", "camera_terms"])
    except (KeyError, ValueError, OSError) as error:
        logger.warning("the captions cannot be read (%s): a reference is always frame 0 of its target", error)
        return pa.array([], pa.string())
    clips, terms = (captions[name].combine_chunks() for name in ("clip_id", "camera_terms"))
    of = clips.take(pc.list_parent_indices(terms))  # the clip of each term
    stands = pc.is_in(pc.struct_field(pc.list_flatten(terms), "term"), value_set=pa.array(STILL_TERMS))
    known = pc.unique(of)
    return known.filter(pc.invert(pc.is_in(known, value_set=of.filter(pc.invert(stands)))))
