"""The tiny base model that is included in this repository, for demos, tests and the miniature."""

import os
import shutil
from pathlib import Path

PRETRAINED = Path(__file__).parent / "miniature" / "pretrained"
"""The model in the diffusers layout; its README describes how it was trained."""


def copy_tiny_base(out: Path) -> Path:
    """Copy the tiny base model to `out` atomically, unless `out` holds one already; return `out`."""
    out = Path(out)
    if not (out / "model_index.json").is_file():
        part = out.with_name(f".{out.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(PRETRAINED, part)
        shutil.rmtree(out, ignore_errors=True)
        os.replace(part, out)
    return out
