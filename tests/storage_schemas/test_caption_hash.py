"""Captions have the same hash if and only if they give every window the same text."""

import copy
from typing import Any

import pyarrow as pa
import pytest

from opendimo.storage_schemas import caption_hash
from opendimo.storage_schemas.caption_hash import caption_hashes
from opendimo.storage_schemas.tables import TABLES

TERMS = [
    {"term": "pan_left", "speed": "slow", "start_frame": 0, "end_frame": 12},
    {"term": "zoom_in", "speed": "fast", "start_frame": 3, "end_frame": 9},
]


def table(*rows: tuple[list[dict[str, Any]], str]) -> pa.Table:
    kind = TABLES["captions"].schema.field("camera_terms").type
    terms, content = zip(*rows, strict=True)
    return pa.table({"camera_terms": pa.array(terms, kind), "content_sentence": pa.array(content)})


@pytest.mark.parametrize("field", ["term", "speed", "start_frame", "end_frame"])
def test_every_field_of_every_term_counts(field: str) -> None:
    changed = copy.deepcopy(TERMS)
    changed[1][field] = {"term": "static", "speed": "slow"}.get(field, 5)
    same, other = caption_hashes(table((TERMS, "A man."), (changed, "A man."))).to_pylist()
    assert same != other


def test_terms_and_content_do_not_mix() -> None:
    rows = [(TERMS, ""), (TERMS[:1], ""), ([], ""), ([], "A man."), ([], "Ein Mann, größer.\n"), (TERMS, "A man.")]
    assert len(set(caption_hashes(table(*rows)).to_pylist())) == len(rows)


def test_rows_are_the_same_in_parts_and_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(TERMS[: n % 3], f"{n // 3}") for n in range(20)]
    whole = caption_hashes(table(*rows)).to_pylist()
    parts = pa.concat_tables([table(*rows[:7]), table(*rows[7:])])
    monkeypatch.setattr(caption_hash, "CHUNK", 6)
    assert caption_hashes(parts).to_pylist() == whole
    assert caption_hashes(parts.slice(9)).to_pylist() == whole[9:]
    assert caption_hashes(parts.slice(20)).to_pylist() == []
