import pytest
import torch

from model.tokens import FrameTokenizer, MotionEncoder

TINY = {"body_size": 32, "hand_size": 16, "body_patch": 8, "hand_patch": 8, "width": 32, "depth": 2, "heads": 4}


@pytest.fixture(scope="module")
def encoder() -> MotionEncoder:
    torch.manual_seed(0)
    return MotionEncoder(**TINY, body_tokens=5, hand_tokens=3, dim=24)


def drivers(samples: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    body, hands = torch.rand(samples, 5, 3, 32, 32, generator=g), torch.rand(samples, 5, 2, 3, 16, 16, generator=g)
    return body, hands, torch.ones(samples, 5, 2, dtype=torch.bool)


def test_only_the_latents_leave_and_every_frame_stands_alone() -> None:
    tokenizer = FrameTokenizer(size=32, patch=8, width=32, depth=2, heads=4, tokens=5, dim=24)
    frames = torch.rand(7, 3, 32, 32)
    tokens = tokenizer(frames)
    assert tokens.shape == (7, 5, 24)
    torch.testing.assert_close(tokenizer(frames[3:4])[0], tokens[3])


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
    for tokenizer in (encoder.body, encoder.hand):
        for parameter in (tokenizer.patches.weight, tokenizer.latents, tokenizer.positions):
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0


def test_a_missing_hand_is_a_learned_token_and_its_pixels_do_not_count(encoder: MotionEncoder) -> None:
    body, hands, ok = drivers()
    ok[0, 1, 0] = False
    before = encoder(body, hands, ok)
    hands[0, 1, 0] = torch.nan
    torch.testing.assert_close(encoder(body, hands, ok), before, rtol=0, atol=0)
    torch.testing.assert_close(before[0, 1, 5:8], encoder.missing_hand + encoder.side[0])


def test_the_side_of_a_hand_is_told(encoder: MotionEncoder) -> None:
    body, hands, ok = drivers()
    hands[:, :, 1] = hands[:, :, 0]
    left, right = encoder(body, hands, ok)[:, :, 5:].unflatten(2, (2, 3)).unbind(2)
    torch.testing.assert_close(right - left, (encoder.side[1] - encoder.side[0]).expand_as(left))


def test_gradient_checkpointing_changes_no_gradient(encoder: MotionEncoder) -> None:
    gradients = []
    for switch in (encoder.disable_gradient_checkpointing, encoder.enable_gradient_checkpointing):
        switch()
        encoder.zero_grad()
        encoder(*drivers()).square().sum().backward()
        gradients.append(encoder.body.patches.weight.grad.clone())
    assert encoder.body.gradient_checkpointing
    encoder.disable_gradient_checkpointing()
    torch.testing.assert_close(gradients[0], gradients[1])


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="patches of 7"):
        FrameTokenizer(size=32, patch=7, width=32, depth=1, heads=4, tokens=5, dim=24)
    tokenizer = FrameTokenizer(size=32, patch=8, width=32, depth=1, heads=4, tokens=5, dim=24)
    with pytest.raises(ValueError, match=r"\[M, 3, 32, 32\], not \(1, 3, 64, 64\)"):
        tokenizer(torch.rand(1, 3, 64, 64))
