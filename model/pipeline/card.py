"""Write the model card of a pipeline: its sources, licences, evaluation, and how to use it."""

from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import ModelCardData

NOT_STATED = "not stated"
MOST = 100
"""Maximum number of attributions in the card; training.json has all."""


LOSSES = {
    "true": "loss, true driver", "other": "another's driver", "none": "no driver", "other_text": "another's text",
    "no_text": "no text",
}  # fmt: skip
"""Column titles for the losses of a driver check."""


def card_of(index: Mapping[str, Any]) -> str:
    """Return the text of README.md of a pipeline folder, from the content of its `model_index.json`."""
    return model_card(index, index["transformer"][1], index["control"][1])


def model_card(config: Mapping[str, Any], transformer: str, control: str) -> str:
    """Return README.md of a pipeline folder; `transformer` and `control` are class names.

    `config` is the pipeline's config: its window, and `training`, which is None or has the fields that
    `training/export.py` writes: `release`, `release_sha256`, `base`, `licences`, `attributions`, `config`, and
    optionally `driver_check` (the newest of the run) and `evaluation` (the summary by `training/evaluation`).
    """
    facts = config["training"] or {}
    licences = facts.get("licences", {})
    sections = [
        _front_matter(facts),
        "# 3DiMo\n\nAnimates the person in a reference image with the motion of a driving video. Text controls the "
        "camera.",
        _section(
            "Provenance",
            {
                "base model": facts.get("base", NOT_STATED),
                "generator": transformer,
                "control": control,
                "release": facts.get("release", NOT_STATED),
                "SHA-256 of the release": f"`{facts.get('release_sha256', NOT_STATED)}`",
                "window": f"{config['num_frames']} frames, one in {config['frame_step']} of a clip, "
                f"{config['width']} x {config['height']}",
                "frames a second": f"about {config['fps']:.4g}" if config["fps"] else NOT_STATED,
            },
        ),
        _section(
            "Licences",
            {
                "base model": licences.get("base", NOT_STATED),
                **{f"data: {name}": f"{pairs} pairs" for name, pairs in sorted(licences.get("data", {}).items())},
            },
        )
        + "\n\nThe weights are derived from both: use them as both allow.",
        _driver_check(facts.get("driver_check")),
        _evaluation(facts.get("evaluation")),
        _list("Attribution", facts.get("attributions", [])),
        _section("Choices", dict(sorted(_flat(facts.get("config", {})).items()))),
        _USE,
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _front_matter(facts: Mapping[str, Any]) -> str:
    """Return the hub's metadata. It omits `license`, which cannot hold the licences of both base model and data."""
    name, _, _ = facts.get("base", "").partition("@")
    metadata = ModelCardData(
        library_name="diffusers",
        pipeline_tag="image-to-video",
        tags=["3dimo", "motion-control", "opendimo"],
        base_model=name if "/" in name else None,  # a model on the hub, not the name of a folder
    )
    return f"---\n{metadata.to_yaml()}\n---"


def _section(title: str, rows: Mapping[str, Any]) -> str:
    """Return a section with a table of two columns; empty if there are no rows."""
    lines = [f"| {_cell(name)} | {_cell(value)} |" for name, value in rows.items()]
    return "\n".join([f"## {title}\n", "| item | value |", "|---|---|", *lines]) if rows else ""


def _driver_check(check: Mapping[str, Any] | None) -> str:
    """Return the section that compares losses with the true driver and with others; empty without a check."""
    if not check:
        return ""
    kinds = {"all": check["loss"], **(check.get("by_kind") or {})}
    lines = [[kind, *(_number(losses.get(name)) for name in LOSSES)] for kind, losses in kinds.items() if losses]
    gap, split = check.get("gap"), "held-out" if check.get("split") == "test" else "training"
    worse = "how much worse the loss is, was not measured" if gap is None else f"the loss is {100 * gap:.0f} % higher"
    about = (
        f"After {check['step']} steps, on {check['pairs']} {split} pairs: with the driver of another performance "
        f"{worse}. About 0 % would mean that drivers are ignored."
    )
    more = [text for text in (check.get("note"), check.get("warning")) if text]
    table = _table(["pairs", *LOSSES.values()], lines)
    return "\n\n".join(["## Does it follow its driver?", about, table, *(f"**{text}**" for text in more)])


def _evaluation(summary: Mapping[str, Any] | None) -> str:
    """Return the section with an evaluation's table; empty without an evaluation."""
    if not summary:
        return ""
    about = f"On release {summary['release']}: {summary['about']}"
    notes = "\n".join(f"- {note}" for note in summary["notes"])
    return "\n\n".join(["## Evaluation", about, _table(summary["columns"], summary["rows"]), notes])


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(_cell(value) for value in line)} |" for line in lines)


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, (int, float)) else "–"


def _list(title: str, items: list[str]) -> str:
    more = [f"- and {len(items) - MOST} more in training.json"] if len(items) > MOST else []
    return "\n".join([f"## {title}\n", *(f"- {item}" for item in items[:MOST]), *more]) if items else ""


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings to dotted names."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


_USE = """## Use

```python
from pathlib import Path

from opendimo.model.pipeline import DiMoPipeline
from opendimo.storage_schemas.media.video import encode

pipeline = DiMoPipeline.from_pretrained("this/folder")
video = pipeline("person.png", "dance.mp4", "The camera arcs left.")
frames = (255 * video.frames[0]).round().astype("uint8")  # [T, H, W, 3]
Path("out.mp4").write_bytes(encode(frames, video.fps))
```

or `dimo generate --checkpoint this/folder --reference person.png --driving dance.mp4 --prompt "..." --out out.mp4`."""
