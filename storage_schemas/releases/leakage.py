"""Check that the test split does not leak into training: no shared person, performance or video file."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from opendimo.storage_schemas.releases.selection import Codes, Selection, codes


def check_splits(chosen: Selection) -> None:
    """Raise `ValueError` if kept pairs of different splits share a subject, a capture, a group or the content of a
    source."""
    kept, split = chosen.kept, codes(chosen.split)
    named = (("capture_id", chosen.capture), ("subject", chosen.subject), ("split_group", chosen.group))
    for what, values in named:
        _check(what, codes(values)[kept], split[kept], values.dictionary)
    stated = chosen.sources["content_sha256"].combine_chunks()
    content = pc.dictionary_encode(pc.if_else(pc.equal(stated, ""), None, stated))
    of_clip = np.append(codes(content), -1)[chosen.clip_source]
    both = np.concatenate([of_clip[chosen.driving[kept]], of_clip[chosen.target[kept]]])
    _check("content_sha256", both, np.tile(split[kept], 2), content.dictionary)


def _check(what: str, values: Codes, split: Codes, names: pa.Array) -> None:
    known = values >= 0
    width = int(split.max(initial=0)) + 1
    values_by_split = np.unique(values[known].astype(np.int64) * width + split[known]) // width
    leaking = np.unique(values_by_split[1:][values_by_split[1:] == values_by_split[:-1]])
    if len(leaking):
        first = min(names.take(pa.array(leaking)).to_pylist())
        raise ValueError(f"{what} {first} is in both splits: the test split would leak into training")
