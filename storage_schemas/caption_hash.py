"""Hash the caption fields that window texts are composed from, to match latents to captions."""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from opendimo.storage_schemas.ids import ID_LENGTH

COMPOSED_OF = ("camera_terms", "content_sentence")
"""The columns of `captions` that determine the text of every window."""
CHUNK = 1 << 16  # rows converted to Python objects at once


def caption_hashes(captions: pa.Table) -> pa.ChunkedArray:
    """Return a hash (32 hex digits) of the columns `COMPOSED_OF` for each row of `captions`."""
    chunks = (captions.slice(start, CHUNK) for start in range(0, captions.num_rows, CHUNK))
    return pa.chunked_array([_hashes(chunk) for chunk in chunks], pa.string())


def _hashes(captions: pa.Table) -> pa.Array:
    terms, content = (captions[name].combine_chunks() for name in COMPOSED_OF)
    texts = pc.binary_join_element_wise(_joined(terms), content, "\n").to_pylist()
    return pa.array([hashlib.sha256(text.encode()).hexdigest()[:ID_LENGTH] for text in texts], pa.string())


def _joined(terms: pa.ListArray) -> pa.Array:
    """Return one string per list of terms. This is unambiguous: no term of the vocabulary has a space or a comma."""
    flat = pc.list_flatten(terms)
    names = ("term", "speed", "start_frame", "end_frame")
    joined = pc.binary_join_element_wise(*(pc.cast(pc.struct_field(flat, name), pa.string()) for name in names), " ")
    lengths = pc.list_value_length(terms).to_numpy(zero_copy_only=False)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    return pc.binary_join(pa.ListArray.from_arrays(offsets, joined), ",")
