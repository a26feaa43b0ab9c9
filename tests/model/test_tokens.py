from dataclasses import replace

import pytest
import torch

from opendimo.model.encoder.config import ENCODERS, EncoderConfig
from opendimo.model.encoder.tokens import FrameTokenizer, MotionEncoder

TINY = EncoderConfig(
    body_size=32, hand_size=16, body_patch=8, hand_patch=8, width=32, depth=2, heads=4, hand_tokens=3, dim=24
)


def make(**changes: bool | int) -> MotionEncoder:
    """Build an encoder; the weights are the same at every call with the same shapes."""
    torch.manual_seed(0)
    return MotionEncoder(replace(TINY, **changes))


@pytest.fixture(scope="module")
def encoder() -> MotionEncoder:
    return make()


def tokenizer(patch: int = 8) -> FrameTokenizer:
    return FrameTokenizer(size=32, patch=patch, width=32, depth=2, heads=4, tokens=5, dim=24, chunk=4)


def drivers(samples: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    body, hands = torch.rand(samples, 5, 3, 32, 32, generator=g), torch.rand(samples, 5, 2, 3, 16, 16, generator=g)
    return body, hands, torch.ones(samples, 5, 2, dtype=torch.bool)


def test_only_the_latents_leave_and_every_frame_stands_alone() -> None:
    encode, frames = tokenizer(), torch.rand(7, 3, 32, 32)
    tokens = encode(frames)
    assert tokens.shape == (7, 5, 24)
    torch.testing.assert_close(encode(frames[3:4])[0], tokens[3])


def test_body_left_and_right_hand_come_in_this_order(encoder: MotionEncoder) -> None:
    body, hands, ok = drivers()
    before = encoder(body, hands, ok)
    assert before.shape == (2, 5, 5 + 2 * 3, 24)
    hands[1, 2, 1] = 0  # the right hand of one frame
    changed = (encoder(body, hands, ok) - before).abs().amax(-1) > 0
    assert changed.nonzero().tolist() == [[1, 2, n] for n in (8, 9, 10)]


def test_permuting_the_batch_commutes(encoder: MotionEncoder) -> None:
    inputs = drivers(3)
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(encoder(*(x[order] for x in inputs)), encoder(*inputs)[order])


def test_gradients_reach_patches_and_latents(encoder: MotionEncoder) -> None:
    encoder.zero_grad()
    encoder(*drivers()).square().sum().backward()
    assert encoder.hand is not None
    for part in (encoder.body, encoder.hand):
        for parameter in (part.patches.weight, part.latents, part.positions, part.class_token):
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0


def test_a_missing_hand_is_a_learned_token_and_its_pixels_do_not_count(encoder: MotionEncoder) -> None:
    body, hands, ok = drivers()
    ok[0, 1, 0] = False
    before = encoder(body, hands, ok)
    hands[0, 1, 0] = torch.nan
    hands.requires_grad_()
    encoder.zero_grad()
    after = encoder(body, hands, ok)
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    torch.testing.assert_close(before[0, 1, 5:8], encoder.missing_hand + encoder.side[0])
    after.square().sum().backward()
    assert torch.equal(hands.grad.abs().amax((-1, -2, -3)) > 0, ok)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


def test_the_side_of_a_hand_is_told(encoder: MotionEncoder) -> None:
    body, hands, ok = drivers()
    hands[:, :, 1] = hands[:, :, 0]
    left, right = encoder(body, hands, ok)[:, :, 5:].unflatten(2, (2, 3)).unbind(2)
    torch.testing.assert_close(right - left, (encoder.side[1] - encoder.side[0]).expand_as(left))


def test_without_hands_there_are_body_tokens_and_no_hand_tokenizer(encoder: MotionEncoder) -> None:
    alone, (body, hands, ok) = make(hands=False), drivers()
    tokens = alone(body, hands * torch.nan, ok)
    assert tokens.shape == (2, 5, 5, 24)
    torch.testing.assert_close(tokens, encoder(body, hands, ok)[:, :, :5])
    assert {name.partition(".")[0] for name, _ in alone.named_parameters()} == {"body"}


@pytest.mark.parametrize("chunk", [1, 3, 100])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_chunks_and_checkpoints_change_no_result_and_no_gradient(chunk: int, checkpointing: bool) -> None:
    results = []
    body, hands, ok = drivers()
    for one, switch in ((make(frames_per_chunk=100), False), (make(frames_per_chunk=chunk), checkpointing)):
        for part in (one.double().body, one.hand):
            part.gradient_checkpointing = switch
        pixels = body.double().requires_grad_()
        first = one(pixels, hands.double(), ok)
        second = one(pixels.flip(0), hands.double(), ok)  # two forwards before one backward
        (first.square().sum() + second.sin().sum()).backward()
        results.append([first.detach(), pixels.grad, *(p.grad for p in one.parameters() if p.grad is not None)])
    assert len(results[0]) == len(results[1])
    for plain, other in zip(*results, strict=True):
        torch.testing.assert_close(other, plain)


def test_checkpoints_keep_pixels_and_not_what_is_computed_of_them() -> None:
    def saved_values(checkpointing: bool) -> int:
        one, count = make(frames_per_chunk=3), 0

        def pack(x: torch.Tensor) -> torch.Tensor:
            nonlocal count
            count += x.numel() if x.shape[:1] == (3,) else 0  # tensors of a chunk, not weights
            return x

        one.body.gradient_checkpointing = checkpointing
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            one.body(drivers()[0].flatten(0, 1)[:9]).sum()
        return count

    assert saved_values(True) <= 9 * 3 * 32 * 32 < saved_values(False)


def test_the_presets_are_what_they_are_called() -> None:
    with torch.device("meta"):
        millions = {name: sum(p.numel() for p in MotionEncoder(c).parameters()) / 1e6 for name, c in ENCODERS.items()}
    # two ViTs of 12 depth width^2 weights each; ViT-B has 85 million in its blocks, ViT-L 302
    assert millions["tiny"] < 0.3
    assert millions["base"] == pytest.approx(2 * 85, rel=0.03)
    assert millions["paper"] == pytest.approx(2 * 302, rel=0.03)


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="patches of 7"):
        tokenizer(patch=7)
    with pytest.raises(ValueError, match=r"\[M, 3, 32, 32\], not \(1, 3, 64, 64\)"):
        tokenizer()(torch.rand(1, 3, 64, 64))
