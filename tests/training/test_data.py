"""Batches are what the release says."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from model.dimo import DiMoConfig
from storage_schemas.releases.release import Release
from training.data import ByteCache, Driving, TrainingData
from training.release import Pair, check_leak, read_pairs
from training.stages import stage_at, three_stages

SCHEDULE = three_stages((5, 5, 5), lr=1e-3)


@pytest.fixture(scope="module")
def data(release: Release) -> TrainingData:
    return TrainingData(release, "train", DiMoConfig.tiny())


def pair_of(data: TrainingData, kind: str) -> Pair:
    return next(p for (k, _), pairs in data.pairs.items() if k == kind for p in pairs)


def test_a_batch_holds_the_latents_and_the_text_of_its_target(data: TrainingData, release: Release) -> None:
    pair = pair_of(data, "cross_view")
    batch = data.batch([pair, pair])
    [raw] = release.blobs("latents", "latents", [pair.latent_id])
    [text] = release.blobs("latents", "text_embedding", [pair.latent_id])
    assert batch.target.shape == (2, 8, 3, 16, 16)
    assert batch.target[0].numpy().astype(np.float16).tobytes() == raw
    n = len(text) // 2 // 32
    assert batch.text[1, :n].numpy().astype(np.float16).tobytes() == text
    assert n < 64 and not batch.text[1, n:].any()
    assert torch.equal(batch.reference, batch.target[:, :, :1])


def test_driving_frames_are_those_of_the_driving_view(data: TrainingData) -> None:
    pair = pair_of(data, "cross_view")
    mirrored = replace(pair, driving_clip_id=pair.target_clip_id, pose_id=None)
    batch = data.batch([pair, mirrored])
    assert batch.body.shape == (2, 9, 3, 64, 64) and batch.hands.shape == (2, 9, 2, 3, 32, 32)
    # view b is view a in the mirror, and so are the boxes: the crops are mirror images, but for the codec
    assert (batch.body[0] - batch.body[1].flip(-1)).abs().mean() < 0.03 < (batch.body[0] - batch.body[1]).abs().mean()


def test_pose_targets_are_six_numbers_a_joint_of_the_driving_window(data: TrainingData, release: Release) -> None:
    pair = replace(pair_of(data, "same_view"), driving_start=17)
    [pose] = release.read("poses", ["body_pose"], f"pose_id = '{pair.pose_id}'")
    batch = data.batch([pair])
    vector = pose["body_pose"][17 + 2 * 4, 3].astype(np.float64)
    angle = np.linalg.norm(vector)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    matrix = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross  # Rodrigues
    assert np.allclose(batch.body6d[0, 4, 3].numpy(), np.concatenate([matrix[:, 0], matrix[:, 1]]), atol=1e-5)
    assert batch.pose_ok.all() and batch.hands_pose_ok.all()


def test_without_a_pose_label_hands_are_missing_and_nothing_is_supervised(data: TrainingData) -> None:
    batch = data.batch([replace(pair_of(data, "same_view"), pose_id=None, weight=0.0)])
    assert not batch.hand_ok.any() and not batch.pose_ok.any() and not batch.hands_pose_ok.any()


def test_reading_ahead_gives_the_same_batches(data: TrainingData) -> None:
    ahead = list(data.batches(3, 8, SCHEDULE, 2, seed=1))
    assert len(ahead) == 5
    for step, batch in enumerate(ahead, start=3):
        again = data.batch(data.choose(step, stage_at(step, SCHEDULE), 2, 1))
        assert all(torch.equal(getattr(batch, f.name), getattr(again, f.name)) for f in fields(batch))


def test_stage_three_reads_no_internet_and_no_same_view(data: TrainingData) -> None:
    point = stage_at(10, SCHEDULE)
    chosen = [pair for step in range(20) for pair in data.choose(step, point, 4, 0)]
    assert {p.kind for p in chosen} == {"cross_view", "moving_camera"}
    assert {p.source_kind for p in chosen} == {"multiview", "unreal"}


def test_no_test_pair_is_trained_on(data: TrainingData, release: Release) -> None:
    test = {p.target_clip_id.rsplit(" ", 1)[0] for p in read_pairs(release, "test")}
    train = {p.target_clip_id.rsplit(" ", 1)[0] for pairs in data.pairs.values() for p in pairs}
    assert test and train and not test & train


def test_two_views_with_the_same_bytes_are_a_leak(data: TrainingData) -> None:
    pair = pair_of(data, "cross_view")
    check_leak(pair, {pair.driving_clip_id: "one", pair.target_clip_id: "two"})
    with pytest.raises(ValueError, match="leak"):
        check_leak(pair, {pair.driving_clip_id: "one", pair.target_clip_id: "one"})
    with pytest.raises(ValueError, match="same_view"):
        check_leak(
            replace(pair_of(data, "same_view"), driving_start=3),
            {c: "one" for c in [pair.target_clip_id]} | {pair_of(data, "same_view").driving_clip_id: "one"},
        )


def test_the_cache_stays_within_its_bytes() -> None:
    reads = []

    def read(name: str) -> Driving:
        reads.append(name)
        return Driving(*[torch.zeros(100, dtype=torch.uint8)] * 7)

    cache = ByteCache(1500)
    for name in ("a", "b", "a", "c", "a", "b"):
        cache.get(name, lambda name=name: read(name))
    assert reads == ["a", "b", "c", "b"]  # b went when c came, a was used since
