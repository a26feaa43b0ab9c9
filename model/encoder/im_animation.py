"""Start from the motion encoder that IM-Animation published (Apache-2.0): TiTok's encoder, 24 layers of width 1024.

The file is `motion_encoder_latest.safetensors`; names and shapes are those of motion_encoder.py and encoder_blocks.py
in github.com/rabberk/IM-Animation. What that encoder computes up to its last norm, our tokenizers compute as well, from
RGB in [0, 1] too; but its patches lie 4 rows higher and 2 columns further to the left, since its convolution pads by so
much. A projection to 12 numbers and a codebook come next: 3DiMo's tokens are continuous, and both are left out.
"""

import math
import pickle
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import interpolate

from opendimo.model.encoder.tokens import MIDDLE, SPREAD, FrameTokenizer, MotionEncoder

HEAD_WIDTH = 64
"""Of an attention head in every size of TiTok; a file does not tell."""
LEFT_OUT = ("encoder.conv_out.", "quantize.")
_POSITIONS, _CLASS = "encoder.positional_embedding", "encoder.class_embedding"
_LATENTS, _LATENT_POSITIONS = "latent_tokens", "encoder.latent_token_positional_embedding"
_MODULES = {"patches": "encoder.patch_embed", "norm_in": "encoder.ln_pre", "norm_out": "encoder.ln_post"}
_IN_LAYERS = {
    "norm1": "ln_1",
    "self_attn": "attn",
    "norm2": "ln_2",
    "linear1": "mlp.c_fc",
    "linear2": "mlp.c_proj",
}


@dataclass(frozen=True)
class Report:
    """Names of parameters of the encoder that were `loaded`, `interpolated` (positions, to another grid), or are
    `missing` in the file and stay as they were; names of tensors of the file that were `left_out`."""

    loaded: tuple[str, ...]
    interpolated: tuple[str, ...]
    missing: tuple[str, ...]
    left_out: tuple[str, ...]


@torch.no_grad()
def initialise(encoder: MotionEncoder, path: Path) -> Report:
    """Gives both tokenizers the weights of the file (.safetensors; .pt or .bin of plain tensors).

    The latents are the first of the file's. Raises `ValueError`, and changes nothing, where the file is unreadable, is
    of another layout, or of other shapes than the encoder.
    """
    state = _read(Path(path))
    tokenizers = {"body": encoder.body} | ({} if encoder.hand is None else {"hand": encoder.hand})
    given = {part: _for_tokenizer(state, tokenizer, path) for part, tokenizer in tokenizers.items()}
    for part, tokenizer in tokenizers.items():
        tokenizer.load_state_dict(given[part], strict=False)
        tokenizer.centre()
    names = {f"{part}.{name}" for part, tensors in given.items() for name in tensors}
    grid = len(state[_POSITIONS]) - 1
    resized = {f"{part}.positions" for part, tokenizer in tokenizers.items() if tokenizer.positions.shape[1] != grid}
    return Report(
        loaded=tuple(sorted(names - resized)),
        interpolated=tuple(sorted(resized)),
        missing=tuple(name for name, _ in encoder.named_parameters() if name not in names),
        left_out=tuple(sorted(name for name in state if name.startswith(LEFT_OUT))),
    )


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ValueError(f"{path}: no such file; download IM-Animation's motion_encoder_latest.safetensors")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path}: not a file of plain tensors ({reason}); take the published .safetensors") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path}: not a dictionary of tensors; take the published .safetensors")
    return state


def _for_tokenizer(state: dict[str, Tensor], tokenizer: FrameTokenizer, path: Path) -> dict[str, Tensor]:
    """The file's tensors under the names, and of the shapes, of a tokenizer's parameters."""
    _check_sizes(state, tokenizer, path)
    own = {name: p for name, p in tokenizer.named_parameters() if not name.startswith(("out.", "offsets"))}
    theirs = {name: _their_name(name) for name in own if name not in ("class_token", "positions", "latents")}
    expected = {*theirs.values(), _POSITIONS, _CLASS, _LATENTS, _LATENT_POSITIONS}
    found = {name for name in state if not name.startswith(LEFT_OUT)}
    if odd := sorted(expected ^ found):
        raise ValueError(f"{path}: not IM-Animation's layout: {odd[0]} is {'missing' if odd[0] in expected else 'new'}")
    count, grid = tokenizer.latents.shape[1], tokenizer.size // tokenizer.patches.kernel_size[0]
    given = {name: state[their] for name, their in theirs.items()}
    try:  # what they add up, we hold as one
        given["class_token"] = (state[_CLASS] + state[_POSITIONS][:1])[None]
        given["positions"] = _resized(state[_POSITIONS][1:], grid)[None]
        given["latents"] = (state[_LATENTS] + state[_LATENT_POSITIONS])[None, :count]
    except RuntimeError as error:
        raise ValueError(f"{path}: positions and tokens do not fit each other: {error}") from error
    given |= _uncentred(given["patches.weight"], given["patches.bias"])
    for name, tensor in given.items():
        if tensor.shape != own[name].shape:
            raise ValueError(f"{path}: {name} would be {[*tensor.shape]}, the encoder has {[*own[name].shape]}")
    return given


def _uncentred(weight: Tensor, bias: Tensor) -> dict[str, Tensor]:
    """Patches for RGB in [0, 1] -> patches [width, 3, p, p] that give the same for centred and scaled RGB."""
    return {"patches.weight": SPREAD * weight, "patches.bias": bias + MIDDLE * weight.sum((1, 2, 3))}


def _check_sizes(state: dict[str, Tensor], tokenizer: FrameTokenizer, path: Path) -> None:
    weight = state.get("encoder.patch_embed.weight")
    if weight is None:
        raise ValueError(f"{path}: not IM-Animation's layout: encoder.patch_embed.weight is missing")
    depth = len({name.split(".")[2] for name in state if name.startswith("encoder.transformer.")})
    found = {
        "depth": depth,
        "width": weight.shape[0],
        "heads": weight.shape[0] // HEAD_WIDTH,
        "patch": weight.shape[-1],
    }
    ours = {
        "depth": len(tokenizer.layers),
        "width": tokenizer.patches.out_channels,
        "heads": tokenizer.heads,
        "patch": tokenizer.patches.kernel_size[0],
    }
    if found != ours:
        raise ValueError(f"{path}: an encoder of {found}, but ours has {ours}; the published one fits preset `paper`")


def _their_name(name: str) -> str:
    """Of a parameter of a tokenizer: `layers.3.norm1.weight` -> `encoder.transformer.3.ln_1.weight`."""
    module, _, rest = name.partition(".")
    if module != "layers":
        return f"{_MODULES[module]}.{rest}"
    layer, part, rest = rest.split(".", maxsplit=2)
    return f"encoder.transformer.{layer}.{_IN_LAYERS[part]}.{rest}"


def _resized(positions: Tensor, grid: int) -> Tensor:
    """Positions [n n, width] of a square grid -> [grid grid, width]."""
    if len(positions) == grid**2:
        return positions
    side = math.isqrt(len(positions))
    picture = positions.float().T.unflatten(1, (side, side))[None]  # [1, width, n, n]
    return interpolate(picture, (grid, grid), mode="bicubic", antialias=True)[0].flatten(1).T
