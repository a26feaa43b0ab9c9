"""Batches are what the release says."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from model.dimo import DiMoConfig
from storage_schemas.releases.release import Release
from training.data import ByteCache, Target, TrainingData
from training.release import Pair, check_leak, read_pairs
from training.stages import stage_at, three_stages

SCHEDULE = three_stages((5, 5, 5), lr=1e-3)


@pytest.fixture(scope="module")
def data(release: Release) -> TrainingData:
    return TrainingData(release, "train", DiMoConfig.tiny())


def pair_of(data: TrainingData, kind: str) -> Pair:
    return next(p for (k, _), pairs in data.pairs.items() if k == kind for p in pairs)


class Unlabelled:
    """A release in which the pairs of some kinds of sources (None: all) have no pose labels."""

    def __init__(self, release: Release, kinds: set[str] | None = None) -> None:
        self._release, self._kinds = release, kinds

    def read(self, table: str, columns: list[str] | None = None, where: str | None = None) -> list[dict]:
        rows = self._release.read(table, columns, where)
        hidden = table == "pairs"
        return [
            r | {"pose_id": None} if hidden and (not self._kinds or r["source_kind"] in self._kinds) else r
            for r in rows
        ]

    def __getattr__(self, name: str) -> object:
        return getattr(self._release, name)


def equal(a: object, b: object) -> bool:
    """Whether all tensors of two batches are the same."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    return all(equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))


def test_a_batch_holds_the_latents_and_the_text_of_its_target(data: TrainingData, release: Release) -> None:
    pair = pair_of(data, "cross_view")
    batch = data.batch([pair, pair])
    [raw] = release.blobs("latents", "latents", [pair.latent_id])
    [text] = release.blobs("latents", "text_embedding", [pair.latent_id])
    assert batch.target.shape == (2, 8, 3, 16, 16)
    assert batch.target[0].numpy().astype(np.float16).tobytes() == raw
    n = len(text) // 2 // 32
    assert batch.text[1, :n].numpy().astype(np.float16).tobytes() == text
    assert batch.text.shape[1] == n and batch.text_ok.all()
    assert torch.equal(batch.reference, batch.target[:, :, :1])


def test_only_a_pair_of_one_view_has_the_driver_in_the_place_of_the_target(data: TrainingData) -> None:
    batch = data.batch([pair_of(data, kind) for kind in ("same_view", "cross_view", "moving_camera")])
    assert batch.same_view.tolist() == [True, False, False]


def test_driving_frames_are_those_of_the_driving_view(data: TrainingData) -> None:
    pair = pair_of(data, "cross_view")
    mirrored = replace(pair, driving_clip_id=pair.target_clip_id, pose_id=None)
    batch = data.batch([pair, mirrored])
    assert batch.driving.body.shape == (2, 9, 3, 64, 64) and batch.driving.hands.shape == (2, 9, 2, 3, 32, 32)
    # view b is view a in the mirror, and so are the boxes: the crops are mirror images, but for the codec
    one, other = batch.driving.body
    assert (one - other.flip(-1)).abs().mean() < 0.03 < (one - other).abs().mean()


def test_pose_targets_are_six_numbers_a_joint_of_the_driving_window(data: TrainingData, release: Release) -> None:
    pair = replace(pair_of(data, "same_view"), driving_start=17)
    [pose] = release.read("poses", ["body_pose"], f"pose_id = '{pair.pose_id}'")
    batch = data.batch([pair])
    vector = pose["body_pose"][17 + 2 * 4, 3].astype(np.float64)
    angle = np.linalg.norm(vector)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    matrix = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross  # Rodrigues
    assert np.allclose(batch.driving.body6d[0, 4, 3].numpy(), np.concatenate([matrix[:, 0], matrix[:, 1]]), atol=1e-5)
    assert batch.driving.pose_ok.all() and batch.driving.hands_pose_ok.all()


def test_without_a_pose_label_hands_are_missing_and_nothing_is_supervised(data: TrainingData) -> None:
    driving = data.batch([replace(pair_of(data, "same_view"), pose_id=None, weight=0.0)]).driving
    assert not driving.hand_ok.any() and not driving.pose_ok.any() and not driving.hands_pose_ok.any()


def test_texts_of_a_batch_are_padded_to_the_longest(data: TrainingData) -> None:
    pairs = [pair_of(data, "same_view"), pair_of(data, "moving_camera")]  # "is static", "pans left"
    batch, alone = data.batch(pairs), [data.batch([pair]) for pair in pairs]
    for i, single in enumerate(alone):
        n = single.text.shape[1]
        assert torch.equal(batch.text[i, :n], single.text[0]) and not batch.text[i, n:].any()
        assert batch.text_ok[i].tolist() == [True] * n + [False] * (batch.text.shape[1] - n)


def test_joints_are_counted_in_the_crop_of_the_targets_shape(data: TrainingData, release: Release) -> None:
    pair = pair_of(data, "same_view")
    [pose] = release.read("poses", ["joints_2d"], f"pose_id = '{pair.pose_id}'")
    driving = data.batch([pair]).driving
    expected = pose["joints_2d"][pair.driving_frames, :, :2] / 96  # square clips of 96 pixels, square targets
    assert np.allclose(driving.joints_2d[0, ..., :2].numpy(), expected, atol=1e-6)


def test_an_unknown_camera_is_45_degrees_wide(data: TrainingData) -> None:
    K = data.batch([pair_of(data, "same_view")]).driving.K[0, 0]
    assert torch.allclose(K, torch.tensor([[1.2, 0, 0.5], [0, 1.2, 0.5], [0, 0, 1]]))


def test_pairs_without_labels_are_left_out_of_what_reads_poses(
    release: Release, caplog: pytest.LogCaptureFixture
) -> None:
    unlabelled = Unlabelled(release, {"internet"})
    model = replace(DiMoConfig.tiny(), control="pose2d")
    data = TrainingData(unlabelled, "train", model)
    assert data.pairs and not any(source == "internet" for _, source in data.pairs)
    assert "train pairs are left out: control 'pose2d' reads pose labels" in caplog.text
    whole = TrainingData(unlabelled, "train", DiMoConfig.tiny())
    assert ("same_view", "internet") in whole.pairs


def test_where_no_pair_is_labelled_the_stage_cannot_run_and_says_why(release: Release) -> None:
    data = TrainingData(Unlabelled(release), "train", replace(DiMoConfig.tiny(), control="smpl_tokens"))
    with pytest.raises(ValueError, match=r"no training pairs of same_view.*are left out: control 'smpl_tokens'"):
        data.mix(stage_at(0, SCHEDULE))


def test_reading_ahead_gives_the_same_batches(data: TrainingData) -> None:
    ahead = list(data.batches(3, 8, SCHEDULE, 2, seed=1))
    assert len(ahead) == 5
    for step, batch in enumerate(ahead, start=3):
        again = data.batch(data.choose(step, stage_at(step, SCHEDULE), 2, 1))
        assert equal(batch, again)


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

    def read(name: str) -> Target:
        reads.append(name)
        return Target(*[torch.zeros(350, dtype=torch.uint8)] * 2)

    cache = ByteCache(1500)
    for name in ("a", "b", "a", "c", "a", "b"):
        cache.get(name, lambda name=name: read(name))
    assert reads == ["a", "b", "c", "b"]  # b went when c came, a was used since
