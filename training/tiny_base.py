"""The tiny models included in this repository: a base model for tests and the miniature, a 3DiMo for the demo."""

import os
import shutil
from pathlib import Path

PRETRAINED = Path(__file__).parent / "miniature" / "pretrained"
"""The base model in the diffusers layout; its README describes how it was trained."""
TRAINED = PRETRAINED.with_name("trained_3dimo")
"""A complete 3DiMo on that base model, as `DiMo.save` writes it, trained on people of the studio."""


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
