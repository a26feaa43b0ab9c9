"""The EMA codebook adapts to the data."""

import torch

from opendimo.model.controls.quantiser import Quantiser


def clusters(steps: int, dead: bool = False) -> tuple[torch.Tensor, Quantiser]:
    torch.manual_seed(0)
    centres = 10 * torch.randn(6, 4)
    quantiser = Quantiser(16, 4).train()
    for _ in range(steps):
        vectors = centres[torch.randint(6, (64,))] + 0.1 * torch.randn(64, 4)
        quantiser(vectors, torch.ones(64, dtype=torch.bool))
    return centres, quantiser


def test_vectors_become_the_nearest_code() -> None:
    quantiser = Quantiser(8, 3).eval()
    vectors = torch.randn(2, 5, 3)
    out = quantiser(vectors, torch.ones(2, 5, dtype=torch.bool))
    expected = ((vectors[:, :, None] - quantiser.codes) ** 2).sum(-1).argmin(-1)
    assert torch.equal(out.indices, expected)
    assert torch.allclose(out.vectors, quantiser.codes[expected], atol=1e-6)


def test_codes_move_to_the_clusters_of_the_data() -> None:
    centres, quantiser = clusters(200)
    out = quantiser.eval()(centres, torch.ones(6, dtype=torch.bool))
    assert (out.vectors - centres).norm(dim=-1).max() < 0.2 and len(out.indices.unique()) == 6


def test_codes_that_nothing_is_near_start_anew_among_the_data() -> None:
    _, quantiser = clusters(1)
    quantiser.codes[:] = 1e3 * torch.randn(16, 4)  # far from everything
    quantiser.counts.zero_()
    vectors = torch.randn(64, 4)
    quantiser(vectors, torch.ones(64, dtype=torch.bool))
    assert torch.cdist(quantiser.codes, vectors).min(1).values.max() < 2


def test_vectors_that_are_not_ok_and_evaluation_leave_the_codes_alone() -> None:
    _, quantiser = clusters(3)
    before = quantiser.codes.clone()
    quantiser.eval()(torch.randn(9, 4), torch.ones(9, dtype=torch.bool))
    assert torch.equal(quantiser.codes, before)
    mixed, ok = torch.cat([before[:3], torch.full((5, 4), 777.0)]), torch.arange(8) < 3
    quantiser.train()(mixed, ok)
    assert quantiser.codes.abs().max() < 100


def test_gradients_pass_as_if_nothing_had_happened() -> None:
    quantiser = Quantiser(8, 3).eval()
    vectors = torch.randn(5, 3, requires_grad=True)
    quantiser(vectors, torch.ones(5, dtype=torch.bool)).vectors.sum().backward()
    assert torch.equal(vectors.grad, torch.ones(5, 3))
