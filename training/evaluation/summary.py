"""Aggregate metrics of clips per system, and format tables for terminal, Markdown, HTML page and model card."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from opendimo.storage_schemas.rows import Row
from opendimo.training.evaluation.azimuth import BUCKETS, UNKNOWN
from opendimo.training.evaluation.config import TRUTH

METRICS = ("ssim", "psnr", "psnr_person", "lpips", "pose_error")
NONE, ABSENT = "–", "absent"


def summarise(clips: Sequence[Row], cases: Mapping[str, Row]) -> Row:
    """Return the mean of each metric over `clips`, with `n` and its standard error `se` over clips.

    `camera`: `recall` and `precision` of detected camera moves against those of the prompt, over the `n` clips whose
    camera can be measured. `landmarks`: share of labelled frames in which the person is detected. `cases`: records by
    case. Metrics that no clip has are omitted.
    """
    summary: Row = {"clips": len(clips)}
    for name in METRICS:
        if values := [row[name] for row in clips if row.get(name) is not None]:
            summary[name] = mean_of(values)
    if labelled := sum(row.get("labelled_frames", 0) for row in clips):
        summary["landmarks"] = sum(row.get("landmark_frames", 0) for row in clips) / labelled
    moves = [(set(cases[row["case"]]["camera_asked"]), set(row["camera_seen"])) for row in clips]
    return summary | {"camera": followed([(prompted, detected) for prompted, detected in moves if prompted])}


def mean_of(values: Sequence[float]) -> Row:
    """Return `mean`, `se` and number `n` of the finite values, and the number `infinite` (PSNR of equal clips)."""
    finite = [value for value in values if math.isfinite(value)]
    n = len(finite)
    mean = math.fsum(finite) / n if n else None
    spread = math.fsum((value - mean) ** 2 for value in finite) if mean is not None else 0.0
    error = math.sqrt(spread / (n - 1) / n) if n > 1 else None
    return {"mean": mean, "se": error, "n": n, "infinite": len(values) - n}


def followed(moves: Iterable[tuple[set[str], set[str]]]) -> Row:
    """Return recall and precision of camera moves over clips, given as (moves in the prompt, detected moves).

    Clips without detected moves are excluded and counted as `not_measurable`.
    """
    pairs = list(moves)
    measurable = [(prompted, detected) for prompted, detected in pairs if detected]
    hits = sum(len(prompted & detected) for prompted, detected in measurable)
    prompted, detected = (sum(len(pair[k]) for pair in measurable) for k in range(2))
    shares = {"recall": hits / prompted if prompted else None, "precision": hits / detected if detected else None}
    return shares | {"n": len(measurable), "not_measurable": len(pairs) - len(measurable)}


def groups_of(clips: Sequence[Row], cases: Mapping[str, Row]) -> dict[str, dict[str, Row]]:
    """Return summaries by `kind` of pair and by azimuth `gap`."""
    groups: dict[str, dict[str, Row]] = {}
    for column in ("kind", "gap"):
        values = sorted({cases[row["case"]][column] for row in clips})
        groups[column] = {
            value: summarise([row for row in clips if cases[row["case"]][column] == value], cases) for value in values
        }
    return groups


def tables(systems: Sequence[Row], absent: Iterable[str]) -> list[Row]:
    """Return tables as `title`, `columns` and `rows` of text: all metrics, then PSNR by azimuth gap and by kind.

    Cells of the metrics in `absent` say "absent".
    """
    titles = [title for title, _, _ in COLUMNS]
    lines = [[ABSENT if name in absent else cell(system) for _, name, cell in COLUMNS] for system in systems]
    result = [Row(title="All clips", columns=titles, rows=lines)]
    for column, title in (("gap", "by degrees between the cameras"), ("kind", "by kind of pair")):
        scored = [s for s in systems if s["name"] != TRUTH]
        values = sorted({value for s in scored for value in s["groups"][column]}, key=_sort_key)
        if values:
            columns = ["system", *(value.replace("_", " ") for value in values)]
            rows = [[s["name"], *(_group(s["groups"][column].get(value)) for value in values)] for s in scored]
            result.append(Row(title=f"PSNR of the person's box, dB, {title}", columns=columns, rows=rows))
    return result


def markdown(result: Row) -> str:
    """Return the evaluation as a Markdown page."""
    parts = [f"# Evaluation on {result['release']}", result["about"]]
    parts += [f"## {table['title']}\n\n{markdown_table(table)}" for table in result["tables"]]
    parts.append("## Notes\n\n" + "\n".join(f"- {note}" for note in result["notes"]))
    return "\n\n".join(parts) + "\n"


def markdown_table(table: Row) -> str:
    """Return a table in Markdown."""
    lines = [table["columns"], ["---"] * len(table["columns"]), *table["rows"]]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _sort_key(value: str) -> tuple[int, str]:
    """Return a sort key: gaps by size, unknown ones last; kinds by name."""
    names = [*map(str, BUCKETS), UNKNOWN]
    return (names.index(value) if value in names else 0, value)


def _group(summary: Row | None) -> str:
    value = (summary or {}).get("psnr_person")
    return f"{_mean(value, 2)} (n {value['n']})" if value else NONE


def _mean(value: Row | None, digits: int, unit: float = 1.0) -> str:
    """Format a mean as `18.21 ± 0.32`, with the number of infinite values if any."""
    if value is None:
        return NONE
    infinite = f"{value['infinite']} infinite" if value["infinite"] else ""
    if value["mean"] is None:
        return infinite
    spread = f" ± {unit * value['se']:.{digits}f}" if value["se"] is not None else ""
    return f"{unit * value['mean']:.{digits}f}{spread}" + (f" ({infinite})" if infinite else "")


def _metric(name: str, digits: int, unit: float = 1.0) -> Callable[[Row], str]:
    return lambda system: _mean(system["all"].get(name), digits, unit)


def _distance(name: str) -> Callable[[Row], str]:
    def cell(system: Row) -> str:
        value = system.get("distances", {}).get(name, {}).get("value")
        return NONE if value is None else f"{value:.2f}"

    return cell


def _count(system: Row) -> str:
    clips, missing = system["all"]["clips"], len(system["missing"])
    return f"{clips} of {clips + missing}" if missing else str(clips)


def _landmarks(system: Row) -> str:
    share = system["all"].get("landmarks")
    return NONE if share is None else f"{100 * share:.0f}"


def _camera(system: Row) -> str:
    camera = system["all"]["camera"]
    if camera["recall"] is None:
        return "not measurable" if camera["not_measurable"] else NONE
    return f"{100 * camera['recall']:.0f} / {100 * camera['precision']:.0f} (n {camera['n']})"


COLUMNS: tuple[tuple[str, str, Callable[[Row], str]], ...] = (
    ("system", "", lambda system: str(system["name"])),
    ("clips", "", _count),
    ("SSIM ↑", "ssim", _metric("ssim", 3)),
    ("PSNR dB ↑", "psnr", _metric("psnr", 2)),
    ("PSNR person ↑", "psnr_person", _metric("psnr_person", 2)),
    ("LPIPS ↓", "lpips", _metric("lpips", 3)),
    ("FID ↓", "fid", _distance("fid")),
    ("FVD ↓", "fvd", _distance("fvd")),
    ("pose error, % height ↓", "pose", _metric("pose_error", 1, 100)),
    ("person found, % ↑", "pose", _landmarks),
    ("camera, recall / precision % ↑", "camera", _camera),
)
"""Columns of the table of all clips: title, metric, and function from a system to a cell."""
