"""References that show another pose: which windows, how often, and their content."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch

from opendimo.model.dimo import DiMoConfig
from opendimo.storage_schemas.releases.release import Release
from opendimo.training.data import TrainingData
from opendimo.training.references import References, still_clips
from opendimo.training.release import Pairs
from opendimo.training.schedule import three_stages
from tests.training.made_pairs import rig

SCHEDULE = three_stages((40, 40, 40), lr=1e-3)


def made(share: float, still: list[str]) -> tuple[Pairs, References]:
    pairs = Pairs.of(rig("one", 2, windows=3) + rig("two", 2, windows=2) + rig("short", 2, windows=1))
    return pairs, References(pairs, pa.array(still, pa.string()), share)


def test_the_other_windows_of_a_still_clip_come_equally_often_and_its_own_as_stated() -> None:
    pairs, references = made(0.5, ["one 1", "two 0", "short 0"])
    row = next(k for k, pair in enumerate(pairs) if pair.latent_id == "one 1 17")
    drawn = Counter(references.draw(np.full(4000, row), step=0, seed=0))
    assert set(drawn) == {"one 1 0", "one 1 17", "one 1 34"}
    assert drawn["one 1 17"] / 4000 == pytest.approx(0.5, abs=0.03)
    assert drawn["one 1 0"] / 4000 == pytest.approx(0.25, abs=0.03)


def test_every_target_of_a_still_clip_with_several_windows_gets_another_one_and_no_other_target_does() -> None:
    pairs, references = made(1.0, ["one 1", "two 0", "short 0"])
    drawn = references.draw(np.arange(len(pairs)), step=3, seed=1)
    for pair, latent in zip(pairs, drawn, strict=True):
        if pair.target_clip_id in ("one 1", "two 0"):
            assert latent != pair.latent_id and latent.rsplit(" ", 1)[0] == pair.target_clip_id
        else:
            assert latent == pair.latent_id


def test_a_draw_depends_on_seed_and_step_alone() -> None:
    pairs, references = made(0.5, ["one 0", "one 1", "two 0", "two 1"])
    rows = np.arange(len(pairs))
    assert references.draw(rows, 5, 1) == references.draw(rows, 5, 1)
    assert len({tuple(references.draw(rows, step, seed)) for step in range(3) for seed in range(3)}) == 9


def captions(*rows: tuple[str, list[str]]) -> SimpleNamespace:
    terms = [[{"term": term, "start_frame": 0, "end_frame": 9} for term in names] for _, names in rows]
    table = pa.table({"clip_id": [clip for clip, _ in rows], "camera_terms": terms})
    return SimpleNamespace(scan=lambda *_: table)


def test_a_camera_stands_still_where_all_captions_say_so() -> None:
    release = captions(
        ("static", ["static"]),
        ("shaken", ["static", "shake"]),
        ("turns", ["static", "pan_left"]),
        ("unknown", []),
        ("disputed", ["static"]),
        ("disputed", ["zoom_in"]),
    )
    assert sorted(still_clips(release).to_pylist()) == ["shaken", "static"]


def test_without_captions_no_camera_is_known_to_stand_still(caplog: pytest.LogCaptureFixture) -> None:
    def scan(*_: object) -> None:
        raise KeyError("captions")

    assert len(still_clips(SimpleNamespace(scan=scan))) == 0
    assert "every reference is frame 0 of its target" in caplog.text


def test_a_reference_is_frame_0_of_the_latents_that_were_drawn(release: Release) -> None:
    data = TrainingData(release, "train", DiMoConfig.tiny(), reference_share=1.0)
    pairs, references = data.choose(0, SCHEDULE, 8, 0), data.references(0, SCHEDULE, 8, 0)
    clips = {row["latent_id"]: row["clip_id"] for row in release.read("latents", ["latent_id", "clip_id"])}
    assert [clips[latent] for latent in references] == [pair.target_clip_id for pair in pairs]
    moved = [latent != pair.latent_id for pair, latent in zip(pairs, references, strict=True)]
    still = [not pair.target_clip_id.startswith("stage") for pair in pairs]
    assert moved == still and set(still) == {True, False}  # every clip has two windows, "stage" ones a moving camera
    batch = next(data.batches(0, 1, SCHEDULE, 8, 0))
    for k, latent in enumerate(references):
        [raw] = release.blobs("latents", "latents", [latent])
        stored = torch.from_numpy(np.frombuffer(raw, np.float16).reshape(8, 3, 16, 16).astype(np.float32))
        assert torch.equal(batch.reference[k], stored[:, :1])


@pytest.mark.parametrize(("mode", "share"), [("first_frame", 1.0), ("prefix", 0.0)])
def test_in_the_mode_first_frame_and_where_switched_off_it_is_the_targets_own(
    release: Release, mode: str, share: float
) -> None:
    model = DiMoConfig(encoder=DiMoConfig.tiny().encoder, reference=mode)
    data = TrainingData(release, "train", model, reference_share=share)
    chosen = data.choose(0, SCHEDULE, 8, 0)
    assert data.references(0, SCHEDULE, 8, 0) == [pair.latent_id for pair in chosen]
    for batch in (next(data.batches(0, 1, SCHEDULE, 8, 0)), data.batch(chosen)):
        assert torch.equal(batch.reference, batch.target[:, :, :1])
