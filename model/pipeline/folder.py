"""Check that a pipeline folder is complete before loading it."""

import json
from pathlib import Path

INDEX = "model_index.json"


def check_folder(path: Path) -> None:
    """Raise `ValueError` if a folder in the diffusers layout lacks its index, a part, or weights of a part."""
    if not (path / INDEX).is_file():
        raise ValueError(f"no pipeline at {path}: {INDEX} is missing; give the folder that save_pretrained wrote")
    parts = [name for name, value in json.loads((path / INDEX).read_text()).items() if isinstance(value, list)]
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
