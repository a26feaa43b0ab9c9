from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from opendimo.model.dimo import Batch, DiMo, Prediction

Make = Callable[..., DiMo]
MakeBatch = Callable[..., Batch]


def predict(dimo: DiMo, batch: Batch, *, seed: int | None = None, **drop: bool) -> Prediction:
    n = len(batch.target)
    noise = torch.randn(batch.target.shape, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        return dimo(
            batch,
            sigma=torch.linspace(0.9, 0.3, n),
            noise=noise,
            drop_motion=torch.full((n,), drop.get("motion", False)),
            augment_seeds=None if seed is None else range(seed, seed + n),
        )


def moved(batch: Batch) -> Batch:
    """Return the batch with its driving clips swapped."""
    return replace(batch, driving=batch.driving.map(lambda x: x.flip(0)))


def test_a_prediction_has_the_shapes_of_the_batch(family: str, make_dimo: Make, make_batch: MakeBatch) -> None:
    batch = make_batch()
    dimo = make_dimo(family=family)
    prediction = predict(dimo, batch)
    assert prediction.velocity.shape == batch.target.shape
    body6d, hands6d = dimo.poses(prediction.features)
    assert body6d.shape == batch.driving.body6d.shape
    assert hands6d.shape == batch.driving.hands6d.shape


def test_the_driving_clip_matters_only_after_training_moved_the_projections(
    family: str, make_dimo: Make, make_batch: MakeBatch
) -> None:
    batch, new, trained = make_batch(), make_dimo(family=family), make_dimo(family=family, trained=True)
    assert (predict(new, batch).velocity - predict(new, moved(batch)).velocity).abs().max() == 0.0
    assert (predict(trained, batch).velocity - predict(trained, moved(batch)).velocity).abs().max() > 1e-3


def test_dropped_motion_is_the_same_whatever_drives(family: str, make_dimo: Make, make_batch: MakeBatch) -> None:
    batch, dimo = make_batch(), make_dimo(family=family, trained=True)
    dropped = predict(dimo, batch, motion=True).velocity
    assert torch.equal(dropped, predict(dimo, moved(batch), motion=True).velocity)
    assert not torch.equal(dropped, predict(dimo, batch).velocity)


def test_permuting_a_batch_commutes(family: str, make_dimo: Make, make_batch: MakeBatch) -> None:
    batch, dimo, order = make_batch(3), make_dimo(family=family, trained=True), torch.tensor([2, 0, 1])
    noise, sigma, keep = (
        torch.randn(batch.target.shape),
        torch.tensor([0.2, 0.5, 0.8]),
        torch.tensor([False, True, False]),
    )
    with torch.no_grad():
        straight = dimo(batch, sigma=sigma, noise=noise, drop_motion=keep, augment_seeds=None)
        permuted = dimo(
            batch.map(lambda x: x[order]),
            sigma=sigma[order],
            noise=noise[order],
            drop_motion=keep[order],
            augment_seeds=None,
        )
    for a, b in zip(straight[:2], permuted[:2], strict=True):
        torch.testing.assert_close(a[order], b, rtol=1e-4, atol=1e-5)


def test_augmentation_follows_its_seed(make_dimo: Make, make_batch: MakeBatch) -> None:
    batch, dimo = make_batch(), make_dimo(trained=True)
    plain, one, again, two = (predict(dimo, batch, seed=seed).features for seed in (None, 1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, plain) and not torch.equal(one, two)


def test_in_first_frame_mode_the_given_frame_costs_nothing(make_dimo: Make, make_batch: MakeBatch) -> None:
    batch = make_batch()
    batch = replace(batch, reference=batch.target[:, :, :1])
    noise = torch.randn(batch.target.shape, generator=torch.Generator().manual_seed(7))
    velocity = predict(make_dimo(reference="first_frame"), batch).velocity
    assert torch.equal(velocity[:, :, 0], (noise - batch.target)[:, :, 0])


def test_latent_frame_0_is_predicted_where_the_base_does_so(make_dimo: Make, make_batch: MakeBatch) -> None:
    batch, dimo = make_batch(), make_dimo(family="hunyuan", reference="first_frame")
    other = replace(batch, reference=batch.reference.flip(0))
    one, two = predict(dimo, batch).velocity, predict(dimo, other).velocity
    noise = torch.randn(batch.target.shape, generator=torch.Generator().manual_seed(7))
    assert not torch.equal(one, two)
    assert not torch.equal(one[:, :, :1], noise[:, :, :1] - batch.reference)


SILENT = {
    "wan": (),
    # streams of other inputs, and the text output of the last block
    "hunyuan": ("image_embedder.", "context_embedder_2.", *(
        f"transformer_blocks.3.{part}" for part in ("attn.to_add_out.", "ff_context.")
    )),
}  # fmt: skip
"""Parameters that the velocity does not depend on."""


def test_every_parameter_that_matters_is_trained(family: str, make_dimo: Make, make_batch: MakeBatch) -> None:
    batch, dimo = make_batch(), make_dimo(family=family, trained=True)
    keep = torch.tensor([False, False])
    out = dimo(
        batch, sigma=torch.tensor([0.5, 0.7]), noise=torch.randn_like(batch.target),
        drop_motion=keep, augment_seeds=[0, 1],
    )  # fmt: skip
    sum(part.square().mean() for part in (out.velocity, *dimo.poses(out.features))).backward()
    untrained = [name.removeprefix("transformer.") for name, p in dimo.named_parameters() if p.grad is None]
    assert [name for name in untrained if not name.startswith(SILENT[family])] == []
    assert bool(untrained) == bool(SILENT[family])


@pytest.mark.parametrize("head", [True, False])
def test_saved_and_loaded_it_is_the_same(
    head: bool, family: str, tmp_path: Path, make_dimo: Make, make_batch: MakeBatch
) -> None:
    dimo, batch = make_dimo(family=family, trained=True), make_batch()
    if not head:
        dimo.geometry = None
    dimo.save(tmp_path)
    loaded = DiMo.load(tmp_path)
    assert loaded.config == dimo.config and loaded.training
    for a, b in zip(predict(dimo, batch, seed=3)[:2], predict(loaded, batch, seed=3)[:2], strict=True):
        assert (a is None and b is None) or torch.equal(a, b)
    assert (loaded.geometry is not None) == head


def test_loading_from_elsewhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"dimo\.json is missing"):
        DiMo.load(tmp_path)
