"""Load the motion encoder published by IM-Animation (Apache-2.0): TiTok's encoder, 24 layers of width 1024.

The file is `motion_encoder_latest.safetensors`; names and shapes are those of motion_encoder.py and encoder_blocks.py
in github.com/rabberk/IM-Animation. Up to its last norm, that encoder computes the same as our tokenizers, from RGB in
[0, 1], too; but its patches are offset by 4 rows up and 2 columns left, because of its convolution's padding. Its
projection to 12 values and its codebook are not loaded, because 3DiMo's tokens are continuous.
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
"""Width of an attention head in every size of TiTok; it cannot be inferred from a file."""
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
    """Result of `initialise`.

    Names of the encoder's parameters that were `loaded`, `interpolated` (positions, to another grid), or are `missing`
    in the file and unchanged; names of tensors in the file that were `left_out`.
    """

    loaded: tuple[str, ...]
    interpolated: tuple[str, ...]
    missing: tuple[str, ...]
    left_out: tuple[str, ...]


@torch.no_grad()
def initialise(encoder: MotionEncoder, path: Path) -> Report:
    """Load the weights of a file (.safetensors; .pt or .bin of plain tensors) into both tokenizers.

    The first latents of the file are used, as many as the tokenizer has. Raises `ValueError`, without changing the
    encoder, if the file is unreadable, or its layout or shapes do not match the encoder.
    """
    state = _read(Path(path))
    tokenizers = {"body": encoder.body} | ({} if encoder.hand is None else {"hand": encoder.hand})
    weights = {part: _for_tokenizer(state, tokenizer, path) for part, tokenizer in tokenizers.items()}
    for part, tokenizer in tokenizers.items():
        tokenizer.load_state_dict(weights[part], strict=False)
        tokenizer.centre()
    names = {f"{part}.{name}" for part, tensors in weights.items() for name in tensors}
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
    """Convert the file's tensors to a tokenizer's parameter names and shapes."""
    _check_sizes(state, tokenizer, path)
    parameters = {name: p for name, p in tokenizer.named_parameters() if not name.startswith(("out.", "offsets"))}
    file_names = {name: _file_name(name) for name in parameters if name not in ("class_token", "positions", "latents")}
    expected = {*file_names.values(), _POSITIONS, _CLASS, _LATENTS, _LATENT_POSITIONS}
    present = {name for name in state if not name.startswith(LEFT_OUT)}
    if wrong := sorted(expected ^ present):
        problem = "missing" if wrong[0] in expected else "unknown"
        raise ValueError(f"{path}: not IM-Animation's layout: {wrong[0]} is {problem}")
    count, grid = tokenizer.latents.shape[1], tokenizer.size // tokenizer.patches.kernel_size[0]
    weights = {name: state[file_name] for name, file_name in file_names.items()}
    try:  # tokens and their positions, which the file holds separately, are one parameter here
        weights["class_token"] = (state[_CLASS] + state[_POSITIONS][:1])[None]
        weights["positions"] = _resized(state[_POSITIONS][1:], grid)[None]
        weights["latents"] = (state[_LATENTS] + state[_LATENT_POSITIONS])[None, :count]
    except RuntimeError as error:
        raise ValueError(f"{path}: shapes of positions and tokens do not match: {error}") from error
    weights |= _uncentred(weights["patches.weight"], weights["patches.bias"])
    for name, tensor in weights.items():
        if tensor.shape != parameters[name].shape:
            raise ValueError(
                f"{path}: {name} would be {[*tensor.shape]}, but the encoder has {[*parameters[name].shape]}"
            )
    return weights


def _uncentred(weight: Tensor, bias: Tensor) -> dict[str, Tensor]:
    """Convert a patch embedding [width, 3, p, p] for RGB in [0, 1] to an equivalent one for centred and scaled RGB."""
    return {"patches.weight": SPREAD * weight, "patches.bias": bias + MIDDLE * weight.sum((1, 2, 3))}


def _check_sizes(state: dict[str, Tensor], tokenizer: FrameTokenizer, path: Path) -> None:
    weight = state.get("encoder.patch_embed.weight")
    if weight is None:
        raise ValueError(f"{path}: not IM-Animation's layout: encoder.patch_embed.weight is missing")
    depth = len({name.split(".")[2] for name in state if name.startswith("encoder.transformer.")})
    file_sizes = {
        "depth": depth,
        "width": weight.shape[0],
        "heads": weight.shape[0] // HEAD_WIDTH,
        "patch": weight.shape[-1],
    }
    encoder_sizes = {
        "depth": len(tokenizer.layers),
        "width": tokenizer.patches.out_channels,
        "heads": tokenizer.heads,
        "patch": tokenizer.patches.kernel_size[0],
    }
    if file_sizes != encoder_sizes:
        raise ValueError(
            f"{path} holds an encoder of sizes {file_sizes}, but this model's encoder has {encoder_sizes}; the "
            "published one fits preset `paper`"
        )


def _file_name(name: str) -> str:
    """Return the file's name of a tokenizer parameter: layers.3.norm1.weight -> encoder.transformer.3.ln_1.weight."""
    module, _, rest = name.partition(".")
    if module != "layers":
        return f"{_MODULES[module]}.{rest}"
    layer, part, rest = rest.split(".", maxsplit=2)
    return f"encoder.transformer.{layer}.{_IN_LAYERS[part]}.{rest}"


def _resized(positions: Tensor, grid: int) -> Tensor:
    """Interpolate positions of a square grid [n n, width] to [grid grid, width]."""
    if len(positions) == grid**2:
        return positions
    side = math.isqrt(len(positions))
    picture = positions.float().T.unflatten(1, (side, side))[None]  # [1, width, n, n]
    return interpolate(picture, (grid, grid), mode="bicubic", antialias=True)[0].flatten(1).T
