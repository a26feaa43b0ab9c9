"""The tiny base model that this repository ships, for demos, tests and the miniature."""

import os
import shutil
from pathlib import Path

PRETRAINED = Path(__file__).parent / "miniature" / "pretrained"
"""In diffusers' layout; its README says what it was made of."""


def copy_tiny_base(out: Path) -> Path:
    """Copy the tiny base model to `out`, whole or not at all, where it is not there yet; return `out`."""
    out = Path(out)
    if not (out / "model_index.json").is_file():
        part = out.with_name(f".{out.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(PRETRAINED, part)
        shutil.rmtree(out, ignore_errors=True)
        os.replace(part, out)
    return out
