"""A release's manifest as tables, for a terminal and for an artifact."""

from typing import Any

Section = tuple[str, tuple[str, ...], list[tuple[Any, ...]]]  # title, columns, rows

TOTALS = ("pairs", "candidates", "captures", "subjects", "clips", "hours")
COUNTS = {
    "by_kind": "kind of pair",
    "by_split": "split",
    "by_source": "source",
    "by_licence": "licence of the target",
    "by_camera_term": "camera term",
    "dropped": "left out",
}
MEASURES = {
    "reprojection": "reprojection, of height",
    "jitter": "jitter, m/s²",
    "foot_skate": "foot skate, m/s",
    "cross_view": "cross view, px",
    "weight": "weight",
}


def sections(manifest: dict[str, Any]) -> list[Section]:
    """What a manifest says, as tables; those with nothing in them are left out."""
    totals = [
        (name, manifest[name])
        for name in ("pairs", "candidates", "captures", "subjects", "clips", "hours")
        if name in manifest
    ]
    counts = [(title, name, n) for key, title in COUNTS.items() for name, n in sorted(manifest.get(key, {}).items())]
    labels = [
        (name, found["labels"], f"{found['valid']:.0%}", *(_measure(found.get(measure)) for measure in MEASURES))
        for name, found in manifest.get("labels", {}).items()
    ]
    accuracy = [
        (name, found["clips"], f"{found['mpjpe_mm']:.1f}", f"{found['pa_mpjpe_mm']:.1f}")
        for name, found in manifest.get("accuracy", {}).items()
    ] or [("none: no clip has truth and another label", "", "", "")]
    held = manifest.get("held_out", {"by_kind": {}, "why_not": {}})
    tested = [(kind, held["by_kind"].get(kind, 0), held["why_not"].get(kind, "")) for kind in _kinds(held)]
    tables: list[Section] = [
        ("Totals", ("what", "number"), totals),
        ("Pairs", ("by", "value", "pairs"), counts),
        ("Held-out pairs", ("kind of pair", "pairs", "why none"), tested),
        ("Pose labels: median (worst tenth from)", ("estimator", "labels", "valid", *MEASURES.values()), labels),
        ("Pose labels against truth, mm", ("estimator", "clips", "MPJPE", "PA-MPJPE"), accuracy),
    ]
    return [section for section in tables if section[2]]


def markdown(release_id: str, sha256: str, state: str, manifest: dict[str, Any]) -> str:
    """The card of a release."""
    parts = [f"**{release_id}** {state}, SHA-256 `{sha256}`"]
    for title, columns, rows in sections(manifest):
        lines = [columns, ["---"] * len(columns), *rows]
        table = "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)
        parts.append(f"### {title}\n\n{table}")
    return "\n\n".join(parts) + "\n"


def _kinds(held: dict[str, Any]) -> list[str]:
    return sorted({*held["by_kind"], *held["why_not"]})


def _measure(found: dict[str, float] | None) -> str:
    return f"{found['median']:.3g} ({found['worst_tenth']:.3g})" if found else ""


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
