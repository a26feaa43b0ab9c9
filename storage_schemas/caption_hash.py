"""What the texts of a clip's windows are composed of, as one hash: tells whether latents belong to a caption."""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from opendimo.storage_schemas.ids import ID_LENGTH

COMPOSED_OF = ("camera_terms", "content_sentence")
"""The columns of `captions` that decide the text of every window."""
CHUNK = 1 << 16  # rows that are Python objects at one time


def caption_hashes(captions: pa.Table) -> pa.ChunkedArray:
    """32 hex digits for each row of a table with the columns `COMPOSED_OF`: equal where those are."""
    chunks = (captions.slice(start, CHUNK) for start in range(0, captions.num_rows, CHUNK))
    return pa.chunked_array([_hashes(chunk) for chunk in chunks], pa.string())


def _hashes(captions: pa.Table) -> pa.Array:
    terms, content = (captions[name].combine_chunks() for name in COMPOSED_OF)
    texts = pc.binary_join_element_wise(_joined(terms), content, "\n").to_pylist()
    return pa.array([hashlib.sha256(text.encode()).hexdigest()[:ID_LENGTH] for text in texts], pa.string())


def _joined(terms: pa.ListArray) -> pa.Array:
    """One text per list of terms; no word of the vocabulary holds a space or a comma."""
    flat = pc.list_flatten(terms)
    names = ("term", "speed", "start_frame", "end_frame")
    each = pc.binary_join_element_wise(*(pc.cast(pc.struct_field(flat, name), pa.string()) for name in names), " ")
    lengths = pc.list_value_length(terms).to_numpy(zero_copy_only=False)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    return pc.binary_join(pa.ListArray.from_arrays(offsets, each), ",")
