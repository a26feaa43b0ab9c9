"""Decisions of people about captions: write doubtful captions to a file that any labelling tool edits, read it back.

A decision is a row of `captions` whose captioner is `HUMAN` and a name. It is the current caption of its clip, whatever
is measured later (`ledger.newest_captions_first`), until there is a later decision.
"""

import csv
import io
import json
import re
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path
from typing import Any

from opendimo.pipelines.cameras.terms import Term
from opendimo.pipelines.captions.answer import contradict
from opendimo.pipelines.captions.content import check_content
from opendimo.pipelines.captions.sentence import camera_sentence, compose
from opendimo.pipelines.engine.revisions import newest
from opendimo.storage_schemas.ids import stable_id
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.ledger import HUMAN
from opendimo.storage_schemas.rows import Row, in_list

COLUMNS = ("clip_id", "name", "frames", "agreement", "estimates", "camera_terms", "content_sentence", "decided")
CAPTION = ["captioner", "agreement", "evidence", "camera_terms", "content_sentence"]
MAX_BYTES = 256 << 20
TERM = re.compile(r"(\w+) (\w+) (\d+)-(\d+)")


def doubtful(lake: Lake, below: float) -> list[Row]:
    """Return the current captions whose estimators agree by less than `below`, the least first, as rows of `COLUMNS`.

    Captions that a person decided on are left out. A camera term is written `pan_left slow 0-48`: speed, frames.
    """
    captions = newest(lake, "captions", ["clip_id"], CAPTION).to_pylist()
    chosen = [
        row
        for row in captions
        if row["agreement"] is not None and row["agreement"] < below and not row["captioner"].startswith(HUMAN)
    ]
    clips = _clips(lake, [row["clip_id"] for row in chosen])
    rows = [_listed(row, clips[row["clip_id"]]) for row in chosen if row["clip_id"] in clips]
    return sorted(rows, key=lambda row: (row["agreement"], row["name"], row["clip_id"]))


def write(rows: Iterable[Row], path: Path) -> None:
    """Write rows of `COLUMNS` as CSV, or as JSON lines if the name ends with `.jsonl`."""
    text = io.StringIO()
    if path.suffix == ".jsonl":
        text.writelines(json.dumps(row) + "\n" for row in rows)
    else:
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    path.write_text(text.getvalue(), encoding="utf-8")


def decide(lake: Lake, path: Path, by: str) -> list[str]:
    """Store the decisions of a file in one commit; return the ids of the clips whose caption this changed.

    Rows in which `decided` is empty are ignored. Doing it again changes nothing. Raises `ValueError` with the line of
    the file if a row is not a valid caption of a clip of the lake, and then stores nothing.
    """
    if not by.strip():
        raise ValueError("a decision needs the name of the person who decides: --by NAME")
    given = {line: row for line, row in _read(path) if str(row.get("decided") or "").strip()}
    clips = _clips(lake, [str(row.get("clip_id")) for row in given.values()])
    rows = dict[str, Row]()
    for line, row in given.items():
        try:
            decided = _decision(row, clips, f"{HUMAN}{by.strip()}")
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path}, line {line}: {error}") from error
        if decided["clip_id"] in rows:
            raise ValueError(f"{path}, line {line}: a second decision about clip {decided['clip_id']}")
        rows[decided["clip_id"]] = decided
    fields = ["captioner", "camera_terms", "content_sentence"]
    stored = {row["clip_id"]: row for row in newest(lake, "captions", ["clip_id"], fields).to_pylist()}
    changed = [k for k, row in rows.items() if any(stored.get(k, {}).get(name) != row[name] for name in fields)]
    if changed:
        version = lake.dataset("captions").version  # a decision that is taken back and made again is another row
        made = [{**rows[k], "caption_id": stable_id("caption", k, by, version)} for k in changed]
        lake.append(stable_id("captions review", by, sorted(changed), version), {"captions": made})
    return changed


def _clips(lake: Lake, clip_ids: list[str]) -> dict[str, Row]:
    rows = lake.read("clips", ["clip_id", "name", "frames"], in_list("clip_id", clip_ids)) if clip_ids else []
    return {row["clip_id"]: row for row in rows}


def _listed(caption: Row, clip: Row) -> Row:
    measured = json.loads(caption["evidence"])
    estimates = {
        name: " ".join(one.get("terms", [])) for name, one in sorted(measured.items()) if isinstance(one, dict)
    }
    terms = "; ".join(f"{t['term']} {t['speed']} {t['start_frame']}-{t['end_frame']}" for t in caption["camera_terms"])
    texts = {"estimates": "; ".join(f"{name}: {words}" for name, words in estimates.items()), "camera_terms": terms}
    content, agreement = caption["content_sentence"], round(caption["agreement"], 3)
    return {**clip, "agreement": agreement, **texts, "content_sentence": content, "decided": ""}


def _read(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Return the rows of a CSV or JSON-lines file with their lines."""
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path} has more than {MAX_BYTES} bytes")
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix == ".jsonl":
        rows = [(n, json.loads(line)) for n, line in enumerate(text.splitlines(), start=1) if line.strip()]
    else:
        reader = csv.DictReader(io.StringIO(text))
        rows = [(reader.line_num, row) for row in reader]
    for line, row in rows:
        if not isinstance(row, dict) or not {"clip_id", "camera_terms"} <= set(row):
            raise ValueError(f"{path}, line {line}: a row needs clip_id and camera_terms")
    return rows


def _decision(row: dict[str, Any], clips: dict[str, Row], captioner: str) -> Row:
    clip_id = str(row["clip_id"])
    if clip_id not in clips:
        raise ValueError(f"the lake has no clip {clip_id[:80]}")
    terms = tuple(sorted({_term(part.strip()) for part in str(row["camera_terms"]).split(";") if part.strip()}))
    if late := next((t for t in terms if t.end_frame > clips[clip_id]["frames"]), None):
        raise ValueError(f"{late.term} ends at {late.end_frame}, the clip has {clips[clip_id]['frames']} frames")
    for a, b in combinations(terms, 2):
        if contradict(a, b):
            raise ValueError(f"{a.term} and {b.term} cannot both hold in frames {max(a.start_frame, b.start_frame)} on")
    content = " ".join(str(row.get("content_sentence") or "").split())
    if content:
        check_content(content)
    sentence = camera_sentence(terms)
    return {
        "clip_id": clip_id,
        "captioner": captioner,
        "camera_terms": [term.row() for term in terms],
        "camera_sentence": sentence,
        "content_sentence": content,
        "text": compose(sentence, content),
        "evidence": json.dumps({"decided": str(row["decided"])[:200]}),
        "agreement": None,
        "raw_answer": None,
        "work_key": stable_id("decision", clip_id, captioner),
    }


def _term(text: str) -> Term:
    match = TERM.fullmatch(text)
    if not match:
        raise ValueError(f"{text[:60]!r} is not a term as in 'pan_left slow 0-48': term, speed, frames")
    return Term(int(match[3]), int(match[4]), match[1], match[2])
