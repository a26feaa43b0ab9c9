"""Run an evaluation: measure all systems, write the result, and record it on model cards."""

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from opendimo.model.pipeline.card import card_of
from opendimo.storage_schemas.lake.files import write_bytes, write_json
from opendimo.storage_schemas.rows import Row
from opendimo.training.evaluation.cases import Case
from opendimo.training.evaluation.config import BASELINE, TRUTH, EvaluationConfig
from opendimo.training.evaluation.measure import Measures, measure
from opendimo.training.evaluation.summary import groups_of, markdown, summarise, tables
from opendimo.training.export import FACTS
from opendimo.training.release import Release


def evaluate(
    release: Release,
    cases: Sequence[Case],
    folders: Mapping[str, Path],
    out: Path,
    config: EvaluationConfig,
    measures: Measures,
    on_done: Callable[[], None] = lambda: None,
) -> Row:
    """Measure the clips in `folders` and the baseline; write OUT/evaluation.json and .md, and return the former.

    Raises `ValueError` for clips that cannot be compared.
    """
    facts = {case.case_id: case.facts() for case in cases}
    systems = dict(folders) | {BASELINE: out / BASELINE}
    measured = measure(release, cases, systems, measures, on_done)
    rows = [
        {
            "name": name,
            **_folder(systems.get(name), out),
            **values,
            "all": summarise(values["clips"], facts),
            "groups": groups_of(values["clips"], facts),
        }
        for name, values in measured.items()
    ]
    kinds = sorted({case.kind for case in cases})
    counts = [f"{sum(case.kind == kind for case in cases)} {kind.replace('_', ' ')}" for kind in kinds]
    split = "held-out" if config.split == "test" else "TRAINING"
    result = {
        "release": release.id,
        "release_sha256": release.sha256,
        "config": {name: value for name, value in asdict(config).items() if name != "weights"},
        "about": f"{len(cases)} {split} clips ({', '.join(counts)}), protocol {config.protocol}, seed {config.seed}.",
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
    """Return the notes that apply to all rows of the tables."""
    notes = [f"{name.upper()} is absent: {why}." for name, why in absent.items()]
    if config.split != "test":
        notes.append("These are training pairs: the numbers do not generalise to people outside the training data.")
    return [
        *notes,
        f"{BASELINE} repeats the reference, which is the first true frame; {TRUTH} measures the true clips themselves: "
        "the accuracy with which poses and cameras can be measured.",
        "± is the standard error over clips. PSNR person is computed inside the person's boxes.",
        "Pose error includes only frames in which the person is detected. Camera: recall is the share of the moves in "
        "the prompt that are detected in the clip, precision the share of detected moves that are in the prompt.",
    ]


def system_notes(systems: Sequence[Row]) -> list[str]:
    """Return the notes about single systems: missing or converted clips, unreliable distances and cameras."""
    notes = []
    for system in systems:
        name = system["name"]
        if missing := system["missing"]:
            names = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if missing[5:] else "")
            notes.append(f"{name} lacks {len(missing)} clips, so its means are over fewer clips: {names}.")
        if changed := system["notes"]:
            notes.append(f"{name}: {len(changed)} clips were converted before the comparison, e.g. {changed[0]}.")
        for kind, distance in system.get("distances", {}).items():
            if "absent" in distance:
                notes.append(f"{kind.upper()} of {name} is absent: {distance['absent']}.")
            elif distance["n"] <= distance["features"]:
                size = f"{distance['n']} samples of {distance['features']} features"
                notes.append(f"{kind.upper()} of {name} is from only {size}: compare it only within this table.")
        if unseen := system["all"]["camera"]["not_measurable"]:
            notes.append(f"The camera of {unseen} clips of {name} is not measurable: too little background.")
    return notes


def card_summary(result: Row, name: str) -> Row:
    """Return the part of a result for a model card: the rows of this model, the baseline and the truth."""
    table = result["tables"][0]
    lines = [line for line in table["rows"] if line[0] in (name, BASELINE, TRUTH)]
    facts = {key: result[key] for key in ("release", "release_sha256", "config", "about")}
    return facts | {"notes": result["general_notes"], "columns": table["columns"], "rows": lines}


def record_on_card(pipeline: Path, summary: Row) -> bool:
    """Write an evaluation into a pipeline folder: training.json, model_index.json, README.md.

    Returns False if the folder is not writable or has no training.json, which means that other software trained the
    model. Each file is replaced atomically, the model card last.
    """
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
    """Return the folder of a system's clips: its name if it is inside `out`, else the absolute path."""
    if folder is None:
        return {}
    return {"folder": folder.name if folder.parent == out else str(folder.absolute())}


def _without_infinity(value: Any) -> Any:
    """Replace infinite numbers, which JSON cannot represent, by "infinite"."""
    if isinstance(value, dict):
        return {key: _without_infinity(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_infinity(part) for part in value]
    return "infinite" if isinstance(value, float) and math.isinf(value) else value
