"""Format the manifest of a release as tables, for the terminal and for a Prefect artifact."""

from typing import Any

Section = tuple[str, tuple[str, ...], list[tuple[Any, ...]]]  # title, columns, rows

TOTALS = ("pairs", "candidates", "captures", "subjects", "clips", "hours")
COUNTS = {
    "by_kind": "kind of pair",
    "by_split": "split",
    "by_source": "source",
    "by_licence": "licence of the target",
    "by_camera_term": "camera term",
    "dropped": "excluded",
}
MEASURES = {
    "reprojection": "reprojection / height",
    "jitter": "jitter, m/s²",
    "foot_skate": "foot skate, m/s",
    "cross_view": "cross-view error, px",
    "weight": "weight",
}


def sections(manifest: dict[str, Any]) -> list[Section]:
    """Return the tables of a manifest, without empty ones."""
    totals = [(name, manifest[name]) for name in TOTALS if name in manifest]
    counts = [(title, name, n) for key, title in COUNTS.items() for name, n in sorted(manifest.get(key, {}).items())]
    labels = [
        (name, stats["labels"], f"{stats['valid']:.0%}", *(_measure(stats.get(measure)) for measure in MEASURES))
        for name, stats in manifest.get("labels", {}).items()
    ]
    accuracy = [
        (name, stats["clips"], f"{stats['mpjpe_mm']:.1f}", f"{stats['pa_mpjpe_mm']:.1f}", _share(stats.get("swapped")))
        for name, stats in manifest.get("accuracy", {}).items()
    ] or [("none: no clip has both ground truth and an estimated label", "", "", "", "")]
    held_out = manifest.get("held_out", {"by_kind": {}, "why_not": {}})
    held_out_rows = [
        (kind, held_out["by_kind"].get(kind, 0), held_out["why_not"].get(kind, "")) for kind in _kinds(held_out)
    ]
    tables: list[Section] = [
        ("Totals", ("quantity", "value"), totals),
        ("Pairs", ("by", "value", "pairs"), counts),
        ("Held-out pairs", ("kind of pair", "pairs", "reason if none"), held_out_rows),
        ("Pose labels: median (threshold of worst 10 %)", ("estimator", "labels", "valid", *MEASURES.values()), labels),
        ("Pose labels vs. ground truth, mm", ("estimator", "clips", "MPJPE", "PA-MPJPE", "sides exchanged"), accuracy),
    ]
    return [section for section in tables if section[2]]


def markdown(release_id: str, sha256: str, state: str, manifest: dict[str, Any]) -> str:
    """Return the Markdown card of a release."""
    parts = [f"**{release_id}** {state}, SHA-256 `{sha256}`"]
    for title, columns, rows in sections(manifest):
        lines = [columns, ["---"] * len(columns), *rows]
        table = "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)
        parts.append(f"### {title}\n\n{table}")
    return "\n\n".join(parts) + "\n"


def _kinds(held_out: dict[str, Any]) -> list[str]:
    return sorted({*held_out["by_kind"], *held_out["why_not"]})


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _measure(summary: dict[str, float] | None) -> str:
    return f"{summary['median']:.3g} ({summary['worst_tenth']:.3g})" if summary else ""


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
