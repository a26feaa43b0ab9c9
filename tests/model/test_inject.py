from functools import partial

import pytest
import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn

from opendimo.model.backbones import inject
from opendimo.model.backbones.inject import MotionAlignment, MotionContext, MotionCrossAttention
from opendimo.model.signal import MotionTokens

DIM, MOTION_DIM, HEADS, PER_FRAME = 32, 16, 4, 6


def attention() -> MotionCrossAttention:
    torch.manual_seed(0)
    layer = MotionCrossAttention(DIM, MOTION_DIM, HEADS)
    torch.nn.init.normal_(layer.to_out.weight)
    return layer


def alignment(mode: str) -> MotionAlignment:
    torch.manual_seed(0)
    return MotionAlignment(mode, stride=4, dim=MOTION_DIM, head_dim=DIM // HEADS)


def motion(frames: int = 9) -> MotionTokens:
    g = torch.Generator().manual_seed(0)
    return MotionTokens(torch.randn(2, frames, 5, MOTION_DIM, generator=g), torch.tensor([True, True]))


def video(latent_frames: int = 3) -> torch.Tensor:
    return torch.randn(2, latent_frames * PER_FRAME, DIM, generator=torch.Generator().manual_seed(1))


def test_a_new_layer_adds_exactly_nothing() -> None:
    layer = MotionCrossAttention(DIM, MOTION_DIM, HEADS)
    for mode in ("aligned", "global"):
        out = layer(video(), alignment(mode)(motion(), 3, 0))
        assert torch.equal(out, torch.zeros(2, 3 * PER_FRAME, DIM))


@pytest.mark.parametrize("prefix", [0, 1])
@pytest.mark.parametrize(("frame", "latent"), [(0, 0), (1, 1), (4, 1), (5, 2), (8, 2)])
def test_aligned_latent_frame_t_attends_to_frames_4t_minus_3_to_4t(frame: int, latent: int, prefix: int) -> None:
    layer, align, tokens = attention(), alignment("aligned"), motion()
    hidden = video(3 + prefix)
    before = layer(hidden, align(tokens, 3, prefix))
    tokens.tokens[0, frame] += 1
    changed = (layer(hidden, align(tokens, 3, prefix)) - before).unflatten(1, (-1, PER_FRAME)).abs().amax((2, 3)) > 0
    assert changed.nonzero().tolist() == [[0, prefix + latent]]


def test_aligned_attention_is_plain_attention_over_the_slots_of_a_frame() -> None:
    layer, align, tokens = attention(), alignment("aligned"), motion()
    out = layer(video(), align(tokens, 3, 0))
    keys = (tokens.tokens[:, 5:9] + align.slots).flatten(1, 2)  # motion of the frames that latent frame 2 encodes
    q = layer.norm_q(layer.to_q(layer.norm(video()[:, 2 * PER_FRAME :]))).unflatten(-1, (HEADS, -1))
    k, v = layer.norm_k(layer.to_k(keys)).unflatten(-1, (HEADS, -1)), layer.to_v(keys).unflatten(-1, (HEADS, -1))
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / (DIM // HEADS) ** 0.5
    plain = layer.to_out(torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), v).flatten(2))
    torch.testing.assert_close(out[:, 2 * PER_FRAME :], plain)


def test_order_within_a_latent_frame_matters() -> None:
    layer, align, tokens = attention(), alignment("aligned"), motion()
    swapped = MotionTokens(tokens.tokens[:, [0, 4, 2, 3, 1, 5, 6, 7, 8]], tokens.present)
    difference = layer(video(), align(tokens, 3, 0)) - layer(video(), align(swapped, 3, 0))
    assert difference[:, PER_FRAME : 2 * PER_FRAME].abs().max() > 1e-4


def test_global_latent_frames_attend_to_every_frame_and_its_time() -> None:
    layer, align, tokens = attention(), alignment("global"), motion()
    before = layer(video(), align(tokens, 3, 0)).unflatten(1, (3, PER_FRAME))
    swapped = MotionTokens(tokens.tokens.flip(1), tokens.present)  # the same set of tokens at other times
    after = layer(video(), align(swapped, 3, 0)).unflatten(1, (3, PER_FRAME))
    assert ((after - before).abs().amax((2, 3)) > 1e-3).all()


def test_global_attention_depends_on_time_differences_only() -> None:
    layer, align = attention(), alignment("global")
    long, short = align(motion(21), 6, 0), align(motion(9), 3, 0)
    keys = motion(9).tokens.flatten(1, 2)
    parts = [
        # latent frames 1, 2 and the frames 1..8 they encode; the same 8 frames later
        (short.query_rope, slice(1, 3), short.key_rope, slice(5, 45)),
        (long.query_rope, slice(3, 5), long.key_rope, slice(45, 85)),
    ]
    outs = [
        layer(
            video(2),
            MotionContext(keys[:, 5:], 2, 0, tuple(x[frames] for x in query), tuple(x[tokens] for x in key)),
        )
        for query, frames, key, tokens in parts
    ]
    torch.testing.assert_close(outs[0], outs[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["aligned", "global"])
def test_reference_frames_get_no_motion(mode: str) -> None:
    out = attention()(video(4), alignment(mode)(motion(), 3, 1)).unflatten(1, (4, PER_FRAME)).abs().amax((2, 3))
    assert (out > 0).tolist() == [[False, True, True, True]] * 2


@pytest.mark.parametrize("mode", ["aligned", "global"])
def test_absent_motion_is_the_learned_null_at_every_place(mode: str) -> None:
    layer, align, tokens = attention(), alignment(mode), motion()
    nulls = align.null.expand(1, 9, 5, -1)
    one = align(MotionTokens(tokens.tokens, torch.tensor([True, False])), 3, 0)
    given = align(MotionTokens(torch.cat([tokens.tokens[:1], nulls]), torch.tensor([True, True])), 3, 0)
    assert torch.equal(layer(video(), one), layer(video(), given))


def test_aligned_equals_global_under_a_block_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Global attention over the aligned keys, at equal times, with a mask that limits each latent frame to its own."""
    layer, aligned = attention(), alignment("aligned")(motion(), 3, 0)
    frames, keys = aligned.keys.shape[1:3]
    no_turn = torch.ones(frames, DIM // HEADS), torch.zeros(frames, DIM // HEADS)
    everywhere = MotionContext(
        aligned.keys.flatten(1, 2), frames, 0, no_turn, tuple(table.repeat(keys, 1) for table in no_turn)
    )
    block = torch.eye(frames, dtype=torch.bool).repeat_interleave(PER_FRAME, 0).repeat_interleave(keys, 1)
    expected, unmasked = layer(video(), aligned), layer(video(), everywhere)
    monkeypatch.setattr(inject, "dispatch_attention_fn", partial(dispatch_attention_fn, attn_mask=block))
    torch.testing.assert_close(layer(video(), everywhere), expected)
    assert (unmasked - expected).abs().max() > 0.1


@pytest.mark.parametrize("mode", ["aligned", "global"])
def test_one_frame_is_one_latent_frame(mode: str) -> None:
    assert attention()(video(1), alignment(mode)(motion(1), 1, 0)).shape == (2, PER_FRAME, DIM)


@pytest.mark.parametrize("mode", ["aligned", "global"])
def test_frame_counts_must_fit(mode: str) -> None:
    with pytest.raises(ValueError, match="3 latent frames encode 9 frames, but the driving clip has 8"):
        alignment(mode)(motion(8), 3, 0)


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="'aligned' or 'global'"):
        alignment("diagonal")
