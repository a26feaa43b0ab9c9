"""One evaluation put together: its result in numbers and in words, on disk and on the model cards."""

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from opendimo.model.pipeline.card import card_of
from opendimo.storage_schemas.lake.files import write_bytes, write_json
from opendimo.training.evaluation.cases import Case
from opendimo.training.evaluation.config import BASELINE, TRUTH, EvaluationConfig
from opendimo.training.evaluation.measure import Measures, measure
from opendimo.training.evaluation.summary import groups_of, markdown, summarise, tables
from opendimo.training.export import FACTS
from opendimo.training.release import Release

Row = dict[str, Any]


def evaluate(
    release: Release,
    cases: Sequence[Case],
    folders: Mapping[str, Path],
    out: Path,
    config: EvaluationConfig,
    measures: Measures,
    on_done: Callable[[], None] = lambda: None,
) -> Row:
    """Measure the clips in `folders` and of the baseline; write and return OUT/evaluation.json, and OUT/evaluation.md.

    Raises `ValueError` for clips that cannot be compared.
    """
    facts = {case.case_id: case.facts() for case in cases}
    systems = dict(folders) | {BASELINE: out / BASELINE}
    measured = measure(release, cases, systems, measures, on_done)
    rows = [
        {
            "name": name,
            **_folder(systems.get(name), out),
            **found,
            "all": summarise(found["clips"], facts),
            "groups": groups_of(found["clips"], facts),
        }
        for name, found in measured.items()
    ]
    kinds = sorted({case.kind for case in cases})
    counts = [f"{sum(case.kind == kind for case in cases)} {kind.replace('_', ' ')}" for kind in kinds]
    held = "held-out" if config.split == "test" else "TRAINING"
    result = {
        "release": release.id,
        "release_sha256": release.sha256,
        "config": {name: value for name, value in asdict(config).items() if name != "weights"},
        "about": f"{len(cases)} {held} clips ({', '.join(counts)}), protocol {config.protocol}, seed {config.seed}.",
        "cases": list(facts.values()),
        "systems": rows,
        "absent": measures.absent,
        "general_notes": (general := general_notes(measures.absent, config)),
        "notes": [*general, *system_notes(rows)],
        "tables": tables(rows, measures.absent),
    }
    result = _without_infinity(result)
    write_json(out / "evaluation.json", result)
    write_bytes(out / "evaluation.md", markdown(result).encode())
    return result


def general_notes(absent: Mapping[str, str], config: EvaluationConfig) -> list[str]:
    """What a reader of any line of the tables must know."""
    notes = [f"{name.upper()} is absent: {why}." for name, why in absent.items()]
    if config.split != "test":
        notes.append("These are training pairs: the numbers say nothing about people the model has not seen.")
    return [
        *notes,
        f"{BASELINE} repeats the reference, which is the first true frame; {TRUTH} is the true clips themselves, and "
        "shows how well poses and cameras can be measured at all.",
        "± is the standard error over clips. PSNR person is that of the boxes in which the person is.",
        "Pose error counts only frames in which the person is found. Camera: of the moves asked for, the share that is "
        "seen, and of those seen, the share that was asked for.",
    ]


def system_notes(systems: Sequence[Row]) -> list[str]:
    """What is particular to single systems."""
    notes = []
    for system in systems:
        name = system["name"]
        if missing := system["missing"]:
            names = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if missing[5:] else "")
            notes.append(f"{name} lacks {len(missing)} clips, so its means are over others: {names}.")
        if changed := system["notes"]:
            notes.append(f"{name}: {len(changed)} clips were changed to be compared, as {changed[0]}.")
        for kind, distance in system.get("distances", {}).items():
            if "absent" in distance:
                notes.append(f"{kind.upper()} of {name} is absent: {distance['absent']}.")
            elif distance["n"] <= distance["features"]:
                few = f"{distance['n']} samples of {distance['features']} features"
                notes.append(f"{kind.upper()} of {name} is of {few}: compare it with nothing but this table.")
        if unseen := system["all"]["camera"]["not_measurable"]:
            notes.append(f"The camera of {unseen} clips of {name} is not measurable: too little background.")
    return notes


def card_summary(result: Row, name: str) -> Row:
    """What a model card shows of an evaluation: the line of this model, of the baseline and of the truth."""
    table = result["tables"][0]
    lines = [line for line in table["rows"] if line[0] in (name, BASELINE, TRUTH)]
    facts = {key: result[key] for key in ("release", "release_sha256", "config", "about")}
    return facts | {"notes": result["general_notes"], "columns": table["columns"], "rows": lines}


def record_on_card(pipeline: Path, summary: Row) -> bool:
    """Put an evaluation into a pipeline's folder: training.json, model_index.json, README.md; False where that is not
    writable or the model was not trained by us. Each file is replaced whole, the card last."""
    index_file, facts_file = pipeline / "model_index.json", pipeline / FACTS
    if not facts_file.is_file() or not os.access(pipeline, os.W_OK):
        return False
    facts = json.loads(facts_file.read_text()) | {"evaluation": summary}
    index = json.loads(index_file.read_text()) | {"training": facts}
    for file, value in ((index_file, index), (facts_file, facts)):
        write_bytes(file, json.dumps(value, indent=1 if file is facts_file else 2, sort_keys=True).encode())
    write_bytes(pipeline / "README.md", card_of(index).encode())
    return True


def _folder(folder: Path | None, out: Path) -> Row:
    """Where the clips of a system are: below `out`, or elsewhere."""
    if folder is None:
        return {}
    return {"folder": folder.name if folder.parent == out else str(folder.absolute())}


def _without_infinity(value: Any) -> Any:
    """The same with infinite numbers as text, which JSON lacks."""
    if isinstance(value, dict):
        return {key: _without_infinity(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_infinity(part) for part in value]
    return "infinite" if isinstance(value, float) and math.isinf(value) else value
