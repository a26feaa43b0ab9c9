"""The embedding of the empty prompt, which replaces dropped texts, as in classifier-free guidance of the base model."""

from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from opendimo.model.base_folder import base_folder
from opendimo.model.text import encode_prompt, load_text


def empty_prompt(base: str, out: Path) -> Tensor:
    """Return the float32 embedding [n, D] of "" by the text encoder of `base`, cached in `out`/no_text.safetensors.

    The text encoder may be larger than the rest of the model, so it is loaded once per run and then released.
    """
    cached = out / "no_text.safetensors"
    if not cached.is_file():
        tokenizer, encoder = load_text(base_folder(base))
        text = encode_prompt(tokenizer, encoder, "").embedding.float().cpu().contiguous()
        part = cached.with_suffix(".part")
        save_file({"no_text": text}, part)
        part.replace(cached)
    return load_file(cached)["no_text"]
