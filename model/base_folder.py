"""Locate a base model: a local folder, or a model of the Hugging Face hub that is downloaded into the hub's cache."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

PARTS = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
"""Pickle files: never downloaded, because loading them can run arbitrary code."""


def base_folder(base: str | Path) -> Path:
    """Return the folder of a base model in the diffusers layout, given its path or ORG/NAME[@REVISION] on the hub.

    Downloads are kept in the hub's cache (`HF_HOME`) and reused. Raises `ValueError` if there is no such folder or the
    hub does not provide the model.
    """
    if Path(base).is_dir():
        return Path(base)
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*(@[\w./-]+)?", str(base)):
        raise ValueError(
            f"no base model at {base}: give a folder in the diffusers layout, or ORG/NAME of one on the hub"
        )
    name, _, revision = str(base).partition("@")
    patterns = ["model_index.json", "README.md", *(f"{part}/*" for part in PARTS)]
    try:
        folder = snapshot_download(
            name, revision=revision or None, allow_patterns=patterns, ignore_patterns=list(PICKLES)
        )
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{base} is not a folder, and the hub does not provide a model of that name: {reason}; give a folder, or "
            "set HF_TOKEN"
        ) from error
    return Path(folder)


def part_config(base: str | Path, part: str) -> dict[str, Any]:
    """Return the config of a part of a base model in the diffusers layout.

    Raises `ValueError` if the config file is missing or is not a JSON object.
    """
    path = Path(base) / part / ("scheduler_config.json" if part == "scheduler" else "config.json")
    try:
        config = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(f"{base} is not a base model in the diffusers layout: {path} is missing") from error
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}): copy the base model again") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} holds a {type(config).__name__}, not an object: copy the base model again")
    return config


def encoders_id(folder: Path) -> str:
    """Return an identifier of the encoders that produce latents and text embeddings.

    It consists of the class names of the VAE and the text encoder, and a hash (32 hex digits) of the names and bytes
    of all files of the VAE, the text encoder and the tokenizer.

    Raises `ValueError` if `folder` is not a base model in the diffusers layout.
    """
    vae, text = (part_config(folder, part) for part in ("vae", "text_encoder"))
    paths = [f for part in ("vae", "text_encoder", "tokenizer") for f in sorted((folder / part).rglob("*"))]
    files = [(str(f.relative_to(folder)), _sha256(f)) for f in paths if f.is_file()]
    weights = hashlib.sha256(json.dumps([files], separators=(",", ":")).encode()).hexdigest()[:32]
    return f"{vae['_class_name']}+{text['architectures'][0]}:{weights}"


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
