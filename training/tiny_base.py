"""The tiny models that this repository ships: a base for the miniature and tests, and a 3DiMo that demos start from."""

import os
import shutil
from pathlib import Path

PRETRAINED = Path(__file__).parent / "miniature" / "pretrained"
"""The base, in diffusers' layout; its README says what it was made of."""
TRAINED = Path(__file__).parent / "miniature" / "trained"
"""A 3DiMo that was trained from that base, as `DiMo.save` writes it; its README says on what."""


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
