"""Compose the configuration of a run: a preset, changed by a variant, a file and `KEY=VALUE` options, in this order."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from opendimo.storage_schemas.settings import parse_assignments, read_toml, with_changes
from opendimo.training.config import PresetName, TrainConfig, preset
from opendimo.training.variants import with_variant

OWN_OPTIONS = ("preset", "variant", "base", "init_encoder", "init_model")
"""Fields with command line options of their own, which neither a file nor `KEY=VALUE` may set."""


@dataclass(frozen=True)
class Recipe:
    """Settings of a run, by name, as people choose them. Later fields override earlier ones.

    `base`: pretrained model. `file`: TOML, or JSON as in `config.json` of a run. `settings`: `KEY=VALUE`, for example
    `schedule.stages.0.steps=2000`. `init_encoder`, `init_model`: weights to start from. `steps`: total of all stages,
    in the proportions of the schedule.
    """

    base: str
    preset: PresetName = "tiny"
    variant: str = "full"
    encoder: str | None = None
    file: str | None = None
    settings: tuple[str, ...] = ()
    init_encoder: str | None = None
    init_model: str | None = None
    steps: int | None = None

    def config(self) -> TrainConfig:
        """Return the configuration of the run.

        Raises `ValueError` for an unknown preset, variant, encoder or key, and for a value of the wrong type or range.
        """
        config = with_variant(preset(self.preset, self.base, self.encoder), self.variant)
        if self.file is not None:
            config = _changed(config, _read(Path(self.file)), self.file)
        config = replace(_changed(config, parse_assignments(self.settings), "--set"), init_encoder=self.init_encoder)
        if self.init_model is not None:
            config = config.from_trained(self.init_model)
        return config if self.steps is None else replace(config, schedule=config.schedule.in_steps(self.steps))


def settings_of(config: TrainConfig) -> dict[str, Any]:
    """Return the settings that a file can set, as `Recipe.file` sets them."""
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
