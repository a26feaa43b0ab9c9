"""Compose the configuration of a run: a preset, changed by a variant, a file and `KEY=VALUE` options, in this order."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from opendimo.storage_schemas.settings import parse_assignments, read_toml, with_changes
from opendimo.training.config import TrainConfig, preset
from opendimo.training.variants import with_variant

OWN_OPTIONS = ("preset", "variant", "base", "init_encoder", "init_model")
"""Fields with command line options of their own, which neither a file nor `KEY=VALUE` may set."""


def recipe(
    preset_name: str,
    base: str | Path,
    *,
    variant: str = "full",
    encoder: str | None = None,
    file: Path | None = None,
    assignments: Iterable[str] = (),
) -> TrainConfig:
    """Return the configuration of a run.

    `file`: TOML, or JSON as in `config.json` of a run. `assignments`: for example `schedule.stages.0.steps=2000`.
    Raises `ValueError` for an unknown preset, variant, encoder or key, and for a value of the wrong type or range.
    """
    config = with_variant(preset(preset_name, base, encoder), variant)
    if file is not None:
        config = _changed(config, _read(file), str(file))
    return _changed(config, parse_assignments(assignments), "--set")


def settings_of(config: TrainConfig) -> dict[str, Any]:
    """Return the settings that a file can set, as `recipe` reads them."""
    return {name: value for name, value in asdict(config).items() if name not in OWN_OPTIONS}


def _read(file: Path) -> dict[str, Any]:
    if file.suffix != ".json":
        return read_toml(file)
    try:
        given = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: {error}") from error
    if not isinstance(given, dict):
        raise ValueError(f"{file} is not a JSON object")
    return given


def _changed(config: TrainConfig, changes: dict[str, Any], origin: str) -> TrainConfig:
    if own := [name for name in OWN_OPTIONS if name in changes]:
        raise ValueError(f"{origin}: set {own[0]} with --{own[0].replace('_', '-')}")
    return with_changes(config, changes, origin)
