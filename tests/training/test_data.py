"""Batches match the content of the release."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from opendimo.model.dimo import DiMoConfig
from opendimo.storage_schemas.releases.release import Release
from opendimo.training.data import TrainingData
from opendimo.training.reading import ByteCache
from opendimo.training.release import Pair, Pairs, check_leaks, read_pairs
from opendimo.training.schedule import stage_at, three_stages

SCHEDULE = three_stages((5, 5, 5), lr=1e-3)


@pytest.fixture(scope="module")
def data(release: Release) -> TrainingData:
    return TrainingData(release, "train", DiMoConfig.tiny())


def pair_of(data: TrainingData, kind: str) -> Pair:
    return next(p for p in data.pairs if p.kind == kind)


class Unlabelled:
    """A release in which the pairs of the given kinds of sources (None: all) have no pose labels."""

    def __init__(self, release: Release, kinds: list[str] | None = None) -> None:
        self._release, self._kinds = release, kinds

    def scan(self, table: str, columns: list[str] | None = None, where: str | None = None) -> pa.Table:
        rows = self._release.scan(table, columns, where)
        if table != "pairs":
            return rows
        hidden = pc.is_in(rows["source_kind"], value_set=pa.array(self._kinds or rows["source_kind"].unique()))
        poses = pc.if_else(hidden, pa.scalar(None, pa.string()), rows["pose_id"])
        return rows.set_column(rows.column_names.index("pose_id"), "pose_id", poses)

    def __getattr__(self, name: str) -> object:
        return getattr(self._release, name)


def equal(a: object, b: object) -> bool:
    """Return whether all tensors of two batches are equal."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    return all(equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))


def test_a_batch_holds_the_latents_and_the_text_of_its_target(data: TrainingData, release: Release) -> None:
    pair = pair_of(data, "cross_view")
    batch = data.batch([pair, pair])
    [raw] = release.blobs("latents", "latents", [pair.latent_id])
    [stored] = release.blobs("latents", "text_embedding", [pair.latent_id])
    [row] = release.rows("latents", [pair.latent_id], ["text_shape"])
    text = stored[: row["text_shape"][0] * 32 * 2]  # the first wording
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
    assert batch.driving.body.shape == (2, 9, 3, 32, 32) and batch.driving.hands.shape == (2, 9, 2, 3, 16, 16)
    # view b is view a mirrored, as are the boxes: the crops are mirror images up to codec noise
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
    expected = (
        pose["joints_2d"][np.asarray(pair.driving_frames), :, :2] / 96
    )  # square clips of 96 pixels, square targets
    assert np.allclose(driving.joints_2d[0, ..., :2].numpy(), expected, atol=1e-6)


def test_landmarks_are_those_of_the_label_and_the_joints_if_it_is_true(data: TrainingData, release: Release) -> None:
    pair = pair_of(data, "same_view")
    assert pair.pose_id is not None
    [pose] = release.read("poses", ["joints_2d", "landmarks_2d"], f"pose_id = '{pair.pose_id}'")
    assert pose["landmarks_2d"] is None
    batch = data.batch([pair]).driving
    assert torch.equal(batch.landmarks_2d, batch.joints_2d)


def test_an_unknown_camera_is_45_degrees_wide(data: TrainingData) -> None:
    K = data.batch([pair_of(data, "same_view")]).driving.K[0, 0]
    assert torch.allclose(K, torch.tensor([[1.2, 0, 0.5], [0, 1.2, 0.5], [0, 0, 1]]))


def test_pairs_without_labels_are_left_out_of_what_reads_poses(
    release: Release, caplog: pytest.LogCaptureFixture
) -> None:
    unlabelled = Unlabelled(release, ["internet"])
    model = replace(DiMoConfig.tiny(), control="pose2d")
    data = TrainingData(unlabelled, "train", model)
    assert data.pairs and not any(pair.source_kind == "internet" for pair in data.pairs)
    assert "train pairs are left out: control 'pose2d' reads pose labels" in caplog.text
    whole = TrainingData(unlabelled, "train", DiMoConfig.tiny())
    assert any(pair.source_kind == "internet" for pair in whole.pairs)


def test_where_no_pair_is_labelled_the_stage_cannot_run_and_says_why(release: Release) -> None:
    data = TrainingData(Unlabelled(release), "train", replace(DiMoConfig.tiny(), control="smpl_tokens"))
    with pytest.raises(ValueError, match=r"no training pairs of same_view.*are left out: control 'smpl_tokens'"):
        data.mix(stage_at(0, SCHEDULE))


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_of_steps_are_the_same_in_any_number_of_processes(
    data: TrainingData, release: Release, workers: int
) -> None:
    batches = list(
        TrainingData(release, "train", DiMoConfig.tiny(), workers=workers).batches(3, 8, SCHEDULE, 2, seed=1)
    )
    assert len(batches) == 5 and batches[0].driving.body.dtype == torch.uint8
    for step, batch in enumerate(batches, start=3):
        references, wordings = data.references(step, SCHEDULE, 2, 1), data.wordings(step, 2, 1)
        again = data.batch(data.choose(step, SCHEDULE, 2, 1), references, wordings)
        assert equal(batch.as_floats(), again)


def test_reading_may_be_broken_off(data: TrainingData) -> None:
    batches = data.batches(0, 15, SCHEDULE, 2, seed=1)
    first = next(batches)
    batches.close()
    assert equal(first, next(data.batches(0, 1, SCHEDULE, 2, seed=1)))


def test_an_error_in_a_loader_process_arrives_as_it_was_raised(release: Release) -> None:
    missing = replace(release, versions=release.versions | {"clip_videos": 1})  # before any video was written
    data = TrainingData(missing, "train", DiMoConfig.tiny(), workers=1)
    with pytest.raises(KeyError, match="clip_videos has no row") as raised:
        next(data.batches(0, 1, SCHEDULE, 2, seed=1))
    assert "DataLoader" not in str(raised.value)


def test_controls_that_read_poses_decode_no_video(release: Release) -> None:
    calls: list[str] = []

    class WithoutVideos:
        def blobs(self, table: str, column: str, keys: list[str]) -> list[bytes]:
            calls.append(table)
            return release.blobs(table, column, keys)

        def __getattr__(self, name: str) -> object:
            return getattr(release, name)

    data = TrainingData(WithoutVideos(), "train", replace(DiMoConfig.tiny(), control="pose2d"))
    driving = data.batch(data.pairs[:2]).driving
    assert "clip_videos" not in calls and driving.body.shape == (2, 9, 3, 0, 0)
    seen = TrainingData(release, "train", DiMoConfig.tiny()).batch(data.pairs[:2]).driving
    for name in ("body6d", "hands6d", "joints_3d", "joints_2d", "landmarks_2d", "K", "pose_ok", "hands_pose_ok"):
        assert torch.equal(getattr(driving, name), getattr(seen, name))


def test_a_batch_reads_each_column_once(release: Release) -> None:
    calls: list[tuple[str, ...]] = []

    class CountedCalls:
        def rows(self, table: str, keys: list[str], columns: list[str]) -> list[dict]:
            calls.append(("rows", table))
            return release.rows(table, keys, columns)

        def blobs(self, table: str, column: str, keys: list[str]) -> list[bytes]:
            calls.append(("blobs", table, column))
            return release.blobs(table, column, keys)

        def __getattr__(self, name: str) -> object:
            return getattr(release, name)

    data = TrainingData(CountedCalls(), "train", DiMoConfig.tiny())
    pairs = data.pairs[:8]
    data.batch(pairs)
    assert sorted(calls) == [
        ("blobs", "clip_videos", "video"),
        ("blobs", "latents", "latents"),
        ("blobs", "latents", "text_embedding"),
        ("rows", "clips"),
        ("rows", "latents"),
        ("rows", "poses"),
    ]
    data.batch(pairs)
    assert len(calls) == 6  # all data was cached


def test_wordings_of_a_text_are_drawn_by_seed_step_and_slot(data: TrainingData, release: Release) -> None:
    size, seed, steps = 6, 7, range(15)
    drawn = list(data.batches(steps[0], 15, SCHEDULE, size, seed))
    used = {}
    for step, batch in zip(steps, drawn, strict=True):
        for slot, pair in enumerate(data.choose(step, SCHEDULE, size, seed)):
            [stored] = release.blobs("latents", "text_embedding", [pair.latent_id])
            [row] = release.rows("latents", [pair.latent_id], ["text_shape", "text"])
            *tokens, width = row["text_shape"]
            assert len(tokens) == len(row["text"].split("\n")) == 3
            parts = np.split(np.frombuffer(stored, np.float16).reshape(-1, width), np.cumsum(tokens)[:-1])
            text = batch.text[slot][batch.text_ok[slot]].numpy()
            [number] = [n for n, part in enumerate(parts) if np.array_equal(part, text)]
            assert number == int(data.wordings(step, size, seed)[slot] * 3)
            used[number] = used.get(number, 0) + 1
    assert min(used.values()) > 18 and len(used) == 3  # 30 each expected
    resumed = list(data.batches(11, 13, SCHEDULE, size, seed))
    assert all(equal(a, b) for a, b in zip(resumed, drawn[11:13], strict=True))
    half = next(data.batches(11, 12, SCHEDULE, size, seed, slice(2, 4)))
    assert torch.equal(half.text[half.text_ok], drawn[11].text[2:4][drawn[11].text_ok[2:4]])


def test_a_video_that_is_too_short_is_named_with_its_pair(data: TrainingData) -> None:
    pair = replace(pair_of(data, "cross_view"), driving_start=30)
    with pytest.raises(ValueError, match=rf"pair {pair.pair_id}, driving clip .*: the window ends with frame 46"):
        data.batch([pair])


def test_fixed_pairs_of_a_stage_follow_its_mix_and_its_sources(data: TrainingData) -> None:
    point = stage_at(10, SCHEDULE)
    chosen = data.fixed_of_stage(point, 7, seed=5)
    assert sorted(Counter(pair.kind for pair in chosen).values()) == [3, 4]
    assert {pair.source_kind for pair in chosen} <= {"multiview", "unreal"}
    assert data.fixed_of_stage(point, 7, seed=5) == chosen
    assert data.fixed("same_view", 3, seed=5) != data.fixed("same_view", 3, seed=6)


def test_another_driver_is_another_performance(data: TrainingData) -> None:
    pair = pair_of(data, "moving_camera")
    other = data.other_driver(pair, seed=0)
    assert other.capture_id != pair.capture_id and other.subject != pair.subject
    assert other == data.other_driver(pair, seed=0)


def test_stage_three_reads_no_internet_and_no_same_view(data: TrainingData) -> None:
    chosen = [pair for step in range(10, 15) for pair in data.choose(step, SCHEDULE, 4, 0)]
    assert {p.kind for p in chosen} == {"cross_view", "moving_camera"}
    assert {p.source_kind for p in chosen} == {"multiview", "unreal"}


def test_no_test_pair_is_trained_on(data: TrainingData, release: Release) -> None:
    test = {p.target_clip_id.rsplit(" ", 1)[0] for p in read_pairs(release, "test")}
    train = {p.target_clip_id.rsplit(" ", 1)[0] for p in data.pairs}
    assert test and train and not test & train


def test_two_views_with_the_same_bytes_are_a_leak(data: TrainingData) -> None:
    two = pair_of(data, "cross_view")
    others = (p for p in data.pairs if p.kind == "same_view")
    one = next(p for p in others if p.target_clip_id not in (two.driving_clip_id, two.target_clip_id))
    clips = [two.driving_clip_id, two.target_clip_id, one.target_clip_id]
    files = pa.table({"clip_id": clips, "video_sha256": ["one", "two", "three"]})
    check_leaks(Pairs.of([two, one]), files)
    with pytest.raises(ValueError, match="leak"):
        check_leaks(Pairs.of([one, two]), files.set_column(1, "video_sha256", pa.array(["one", "one", "three"])))
    with pytest.raises(ValueError, match="same_view"):
        check_leaks(Pairs.of([two, replace(one, driving_start=3)]), files)
    with pytest.raises(ValueError, match="which the release does not have"):
        check_leaks(Pairs.of([two, one]), files.slice(1))


def test_the_cache_stays_within_its_bytes() -> None:
    reads: list[str] = []

    def read(names: list[str]) -> list[torch.Tensor]:
        reads.append("".join(names))
        return [torch.zeros(700, dtype=torch.uint8)[:10] for _ in names]  # a view keeps the whole tensor in memory

    cache = ByteCache(1500)
    for names in ("ab", "ac", "a", "ba"):
        assert len(cache.get(names, read)) == len(names)
        assert cache.held == 1400
    assert reads == ["ab", "c", "b"]  # c evicted b; a was used more recently
    cache.get("abcd", read)
    assert cache.held == 1400


def test_threads_share_a_cache() -> None:
    def read(keys: list[int]) -> list[torch.Tensor]:
        return [torch.full((100,), key, dtype=torch.uint8) for key in keys]

    cache = ByteCache(550)

    def use(seed: int) -> bool:
        requests = np.random.default_rng(seed).integers(0, 9, (200, 3)).tolist()
        return all([int(value[0]) for value in cache.get(keys, read)] == keys for keys in requests)

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(use, range(8)))
    last = [20, 21, 22, 23, 24]
    cache.get(last, read)
    assert cache.held == 500
    cache.get(last, lambda missing: pytest.fail(f"{missing} are not cached"))


def test_what_is_larger_than_the_cache_is_not_kept() -> None:
    cache = ByteCache(100)
    [value] = cache.get("a", lambda names: [torch.zeros(101, dtype=torch.uint8)])
    assert len(value) == 101 and cache.held == 0
