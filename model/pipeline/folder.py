"""Save pipelines with a model card, and load them from complete folders, also of earlier versions."""

import json
from os import PathLike
from pathlib import Path
from typing import Any, Self

from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from opendimo.model.pipeline.card import card_of

INDEX = "model_index.json"
CODE = "from opendimo.model.pipeline import DiMoPipeline as DiMoPipeline\n"
"""Content of pipeline.py, in which `DiffusionPipeline.from_pretrained` looks for the class of the pipeline."""


class SavedPipeline(DiffusionPipeline):
    """A pipeline that is saved with its card and that both its class and `DiffusionPipeline` load."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | PathLike[str], **kwargs: Any) -> Self:
        """Load as in diffusers. Raises `ValueError` if a local folder lacks a part or its weights."""
        if Path(pretrained_model_name_or_path).is_dir():
            check_folder(Path(pretrained_model_name_or_path))
        return super().from_pretrained(pretrained_model_name_or_path, **kwargs)

    @classmethod
    def _dict_from_json_file(cls, json_file: str | PathLike[str]) -> dict[str, Any]:
        """Read an index so that no code of its folder is run, also one from before packages were named `opendimo.*`."""
        index: dict[str, Any] = super()._dict_from_json_file(json_file)
        if isinstance(index.get("_class_name"), list):  # [file, class]
            index["_class_name"] = index["_class_name"][1]
        for part in index.values():
            if isinstance(part, list) and part and str(part[0]).startswith("model."):
                part[0] = f"opendimo.{part[0]}"
        return index

    def save_pretrained(self, save_directory: str | PathLike[str], **kwargs: Any) -> None:  # type: ignore[override]
        """Save as in diffusers, plus a model card README.md and, if there is training metadata, training.json.

        pipeline.py makes `DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)` return this class.
        """
        super().save_pretrained(save_directory, **kwargs)
        folder = Path(save_directory)
        index = json.loads((folder / INDEX).read_text())
        index["_class_name"] = ["pipeline", "DiMoPipeline"]  # file and class
        (folder / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
        for config in folder.glob("*/config.json"):
            settings = json.loads(config.read_text())
            if settings.pop("_name_or_path", None):  # where a part was loaded from: a private path
                config.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
        (folder / "pipeline.py").write_text(CODE)
        (folder / "README.md").write_text(card_of(index))
        if index["training"]:
            (folder / "training.json").write_text(json.dumps(index["training"], indent=1, sort_keys=True))


def check_folder(path: Path) -> None:
    """Raise `ValueError` if a folder in the diffusers layout lacks its index, a part, or weights of a part."""
    if not (path / INDEX).is_file():
        raise ValueError(f"no pipeline at {path}: {INDEX} is missing; give the folder that save_pretrained wrote")
    index = json.loads((path / INDEX).read_text())
    parts = [name for name, value in index.items() if isinstance(value, list) and not name.startswith("_")]
    for part in parts:
        if not (path / part).is_dir():
            raise ValueError(f"{path} lacks the folder {part}: copy the whole pipeline")
        if not (path / part / "config.json").is_file():
            continue  # a tokenizer or a scheduler: no weights to check
        shards = {
            file
            for index in (path / part).glob("*.index.json")
            for file in json.loads(index.read_text())["weight_map"].values()
        }
        missing = sorted(file for file in shards if not (path / part / file).is_file())
        if missing or not any((path / part).glob("*.safetensors")):
            name = missing[0] if missing else "*.safetensors"
            raise ValueError(f"{path / part} lacks its weights, {name}: copy the whole pipeline")
