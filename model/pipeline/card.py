"""The model card of a pipeline: what it was made of, under which licences, and how to use it."""

from collections.abc import Mapping
from typing import Any

NOT_STATED = "not stated"
MOST = 100
"""Attributions that are listed; training.json has all."""


def model_card(config: Mapping[str, Any], transformer: Any, control: Any) -> str:
    """README.md of a pipeline folder. `config` is the pipeline's: its window, and `training`, as `training/export.py`
    fills it (`release`, `release_sha256`, `base`, `licences`, `attributions`, `config`), or None."""
    facts = config["training"] or {}
    licences = facts.get("licences", {})
    sections = [
        _front_matter(facts),
        "# 3DiMo\n\nA person from an image moves as the person in a driving video does, and the camera as text says.",
        _section(
            "Made of",
            {
                "base model": facts.get("base", NOT_STATED),
                "generator": type(transformer).__name__,
                "control": type(control).__name__,
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
        _list("Attribution", facts.get("attributions", [])),
        _section("Choices", dict(sorted(_flat(facts.get("config", {})).items()))),
        _USE,
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _front_matter(facts: Mapping[str, Any]) -> str:
    """Metadata of the hub. Without a licence: one word cannot say those of base model and data together."""
    lines = ["library_name: diffusers", "pipeline_tag: image-to-video", "tags: [3dimo, motion-control, opendimo]"]
    name, _, _ = facts.get("base", "").partition("@")
    if "/" in name:  # a model of the hub, not the name of a folder
        lines.append(f"base_model: {name}")
    return "\n".join(["---", *lines, "---"])


def _section(title: str, rows: Mapping[str, Any]) -> str:
    """A table of two columns, or nothing."""
    lines = [f"| {_cell(name)} | {_cell(value)} |" for name, value in rows.items()]
    return "\n".join([f"## {title}\n", "| what | which |", "|---|---|", *lines]) if rows else ""


def _list(title: str, items: list[str]) -> str:
    more = [f"- and {len(items) - MOST} more in training.json"] if len(items) > MOST else []
    return "\n".join([f"## {title}\n", *(f"- {item}" for item in items[:MOST]), *more]) if items else ""


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted names."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


_USE = """## Use

```python
from diffusers.utils import export_to_video
from model.pipeline import DiMoPipeline

pipeline = DiMoPipeline.from_pretrained("this/folder")
video = pipeline("person.png", "dance.mp4", "The camera arcs left.", output_type="pil")
export_to_video(video.frames[0], "out.mp4", fps=round(video.fps))
```

or `dimo generate --checkpoint this/folder --reference person.png --driving dance.mp4 --prompt "..." --out out.mp4`."""
