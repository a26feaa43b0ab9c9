"""The embedding of the empty prompt, which takes the place of dropped texts, as in the base model's sampling."""

from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from opendimo.model.base_folder import base_folder
from opendimo.model.text import encode_prompt, load_text


def empty_prompt(base: str, out: Path) -> Tensor:
    """Return the embedding [n, D] of "" by the text encoder of `base`, float32, kept in `out`/no_text.safetensors.

    The text encoder may be larger than the rest of the model: it is loaded once a run, and let go of.
    """
    kept = out / "no_text.safetensors"
    if not kept.is_file():
        tokenizer, encoder = load_text(base_folder(base))
        text = encode_prompt(tokenizer, encoder, "").embedding.float().cpu().contiguous()
        part = kept.with_suffix(".part")
        save_file({"no_text": text}, part)
        part.replace(kept)
    return load_file(kept)["no_text"]
