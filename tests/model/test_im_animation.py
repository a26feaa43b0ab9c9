"""Loading of IM-Animation's weights, tested with random weights in the published layout for a small encoder."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from opendimo.model.encoder.config import EncoderConfig
from opendimo.model.encoder.im_animation import initialise
from opendimo.model.encoder.tokens import MotionEncoder

WIDTH, DEPTH, HEADS, PATCH, GRID, LATENTS = 128, 2, 2, 16, 4, 32
CONFIG = EncoderConfig(body_size=64, hand_size=32, width=WIDTH, depth=DEPTH, heads=HEADS, dim=WIDTH, hand_tokens=3)


def published(seed: int = 0) -> dict[str, Tensor]:
    """Return random tensors with the names of `motion_encoder_latest.safetensors`."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int, around: float = 0.0, spread: float = 0.1) -> Tensor:
        return around + spread * torch.randn(*shape, generator=g)

    def norm(name: str) -> dict[str, Tensor]:
        return {f"{name}.weight": normal(WIDTH, around=1.0), f"{name}.bias": normal(WIDTH)}

    state = {
        "latent_tokens": normal(LATENTS, WIDTH, spread=1.0),
        "encoder.patch_embed.weight": normal(WIDTH, 3, PATCH, PATCH),
        "encoder.patch_embed.bias": normal(WIDTH),
        "encoder.class_embedding": normal(1, WIDTH, spread=1.0),
        "encoder.positional_embedding": normal(GRID**2 + 1, WIDTH, spread=1.0),
        "encoder.latent_token_positional_embedding": normal(LATENTS, WIDTH, spread=1.0),
        **norm("encoder.ln_pre"),
        **norm("encoder.ln_post"),
        "encoder.conv_out.weight": normal(12, WIDTH, 1, 1),
        "encoder.conv_out.bias": normal(12),
        "quantize.embedding.weight": normal(4096, 12),
    }
    for i in range(DEPTH):
        block = f"encoder.transformer.{i}"
        state |= norm(f"{block}.ln_1") | norm(f"{block}.ln_2")
        for layer, (rows, columns) in {
            "attn.in_proj_": (3 * WIDTH, WIDTH),
            "attn.out_proj.": (WIDTH, WIDTH),
            "mlp.c_fc.": (4 * WIDTH, WIDTH),
            "mlp.c_proj.": (WIDTH, 4 * WIDTH),
        }.items():
            state[f"{block}.{layer}weight"] = normal(rows, columns)
            state[f"{block}.{layer}bias"] = normal(rows)
    assert len(state) == 301 - 12 * (24 - DEPTH)  # as their checkpoint_info.json counts, of 24 layers
    return state


def reference(state: dict[str, Tensor], frames: Tensor, count: int) -> Tensor:
    """Compute the published encoder's latents after its last norm: [M, 3, S, S] -> [M, K, width].

    Implemented from its description: patches with padding (4, 2); class token and latents, each with positions;
    pre-norm blocks; only the first `count` latents, as many as our tokenizers have.
    """
    s = {name.removeprefix("encoder."): x for name, x in state.items()}

    def norm(x: Tensor, name: str) -> Tensor:
        return functional.layer_norm(x, (WIDTH,), s[f"{name}.weight"], s[f"{name}.bias"])

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ s[f"{name}weight"].T + s[f"{name}bias"]

    patches = functional.conv2d(frames, s["patch_embed.weight"], s["patch_embed.bias"], stride=PATCH, padding=(4, 2))
    patches = patches.flatten(2).transpose(1, 2)
    assert patches.shape[1] == GRID**2
    m = len(frames)
    x = torch.cat([s["class_embedding"].expand(m, 1, -1), patches], dim=1) + s["positional_embedding"]
    latents = (s["latent_tokens"] + s["latent_token_positional_embedding"])[:count]
    x = norm(torch.cat([x, latents.expand(m, -1, -1)], dim=1), "ln_pre")
    for i in range(DEPTH):
        block = f"transformer.{i}"
        q, k, v = linear(norm(x, f"{block}.ln_1"), f"{block}.attn.in_proj_").chunk(3, dim=-1)
        heads = [y.unflatten(-1, (HEADS, -1)).transpose(1, 2) for y in (q, k, v)]  # [M, heads, n, 64]
        scores = (heads[0] @ heads[1].transpose(-1, -2) / (WIDTH / HEADS) ** 0.5).softmax(-1)
        x = x + linear((scores @ heads[2]).transpose(1, 2).flatten(2), f"{block}.attn.out_proj.")
        hidden = functional.gelu(linear(norm(x, f"{block}.ln_2"), f"{block}.mlp.c_fc."))
        x = x + linear(hidden, f"{block}.mlp.c_proj.")
    return norm(x[:, -count:], "ln_post")


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """Write a file of the published tensors, with some changed or removed (None)."""

    def save(suffix: str = ".safetensors", **changes: Tensor | None) -> Path:
        path = tmp_path / f"encoder{suffix}"
        state = {name: x for name, x in (published() | changes).items() if x is not None}
        save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
        return path

    return save


def latents_alone(encoder: MotionEncoder) -> MotionEncoder:
    """Set our output projection, which is not in the file, to the identity."""
    for tokenizer in (encoder.body, encoder.hand):
        if tokenizer is not None:
            torch.nn.init.eye_(tokenizer.out.weight)
            torch.nn.init.zeros_(tokenizer.out.bias)
    return encoder


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".bin"])
def test_the_body_tokenizer_computes_what_theirs_does(saved: Callable[..., Path], suffix: str) -> None:
    encoder = latents_alone(MotionEncoder(CONFIG))
    initialise(encoder, saved(suffix))
    frames = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    shifted = functional.pad(frames, (2, -2, 4, -4))  # their patches start 4 rows above and 2 columns beside the frame
    uncentred = encoder.body(shifted) - encoder.body.offsets
    torch.testing.assert_close(uncentred, reference(published(), frames, 5), atol=2e-5, rtol=1e-5)


def test_the_hand_tokenizer_gets_the_same_with_positions_of_its_grid(saved: Callable[..., Path]) -> None:
    encoder = MotionEncoder(CONFIG)
    ramp = torch.arange(GRID).float().repeat_interleave(GRID)[:, None].expand(-1, WIDTH)  # the number of the row
    positions = torch.cat([torch.zeros(1, WIDTH), ramp])
    initialise(encoder, saved(**{"encoder.positional_embedding": positions}))
    assert encoder.hand is not None
    rows = encoder.hand.positions[0].unflatten(0, (2, 2))  # [2, 2, width]
    assert (rows[:, 0] == rows[:, 1]).all() and (rows[0] < rows[1]).all()
    torch.testing.assert_close(rows.mean((0, 1)), torch.full((WIDTH,), 1.5))
    body, hand = encoder.body.state_dict(), encoder.hand.state_dict()
    for name in body.keys() - {"positions", "latents", "out.weight", "out.bias", "offsets"}:
        assert torch.equal(body[name], hand[name]), name
    assert torch.equal(body["latents"][:, :3], hand["latents"])


def test_the_report_names_everything_once(saved: Callable[..., Path]) -> None:
    encoder = MotionEncoder(CONFIG)
    report = initialise(encoder, saved())
    assert sorted(report.loaded + report.interpolated + report.missing) == sorted(dict(encoder.named_parameters()))
    assert report.interpolated == ("hand.positions",)
    projections = {f"{part}.out.{name}" for part in ("body", "hand") for name in ("weight", "bias")}
    projections |= {"body.offsets", "hand.offsets"}
    assert {*report.missing} == projections | {"side", "missing_hand"}
    assert report.left_out == ("encoder.conv_out.bias", "encoder.conv_out.weight", "quantize.embedding.weight")


def test_an_encoder_without_hands_is_initialised_too(saved: Callable[..., Path]) -> None:
    report = initialise(MotionEncoder(replace(CONFIG, hands=False)), saved())
    assert {*report.missing} == {"body.out.weight", "body.out.bias", "body.offsets"} and report.interpolated == ()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"depth": 3}, r"'depth': 2.*'depth': 3.*preset `paper`"),
        ({"width": 192, "heads": 3}, r"'width': 128.*'width': 192"),
        ({"heads": 4}, r"'heads': 2.*'heads': 4"),
        ({"body_patch": 8}, r"'patch': 16.*'patch': 8"),
        ({"body_tokens": 33}, r"latents would be \[1, 32, 128\], but the encoder has \[1, 33, 128\]"),
    ],
)
def test_another_shape_of_encoder_is_refused(saved: Callable[..., Path], changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        initialise(MotionEncoder(replace(CONFIG, **changes)), saved())


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"decoder.ffn.weight": torch.zeros(2)}, "decoder.ffn.weight is unknown"),
        ({"encoder.transformer.1.attn.in_proj_bias": None}, "transformer.1.attn.in_proj_bias is missing"),
        ({"encoder.patch_embed.weight": None}, "patch_embed.weight is missing"),
        ({"encoder.positional_embedding": torch.zeros(8, WIDTH)}, "shapes of positions and tokens do not match"),
        ({"encoder.class_embedding": torch.zeros(1, 7)}, "shapes of positions and tokens do not match"),
        ({"encoder.ln_pre.bias": torch.zeros(7)}, r"norm_in.bias would be \[7\], but the encoder has \[128\]"),
    ],
)
def test_another_layout_is_refused_and_nothing_is_changed(
    saved: Callable[..., Path], changes: dict[str, Tensor | None], message: str
) -> None:
    encoder = MotionEncoder(CONFIG)
    before = {name: x.clone() for name, x in encoder.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        initialise(encoder, saved(**changes))
    assert all(torch.equal(x, before[name]) for name, x in encoder.state_dict().items())


def test_files_that_cannot_be_read_or_could_run_code_are_refused(tmp_path: Path) -> None:
    text, pickled = tmp_path / "encoder.safetensors", tmp_path / "encoder.pt"
    text.write_text("no tensors")
    torch.save({"latent_tokens": Path("a path is an object")}, pickled)
    for path, message in ((text, "not a file of plain tensors"), (pickled, "not a file"), (tmp_path, "no such file")):
        with pytest.raises(ValueError, match=message):
            initialise(MotionEncoder(CONFIG), path)
