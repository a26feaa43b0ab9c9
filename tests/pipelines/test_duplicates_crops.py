"""Crops of real clips are linked to them, so that they are on one side of a split; other clips of a person are not."""

from pathlib import Path

import numpy as np
import pytest

from opendimo.pipelines.duplicates.crops import cropped_footage
from opendimo.pipelines.quality.policy import Policy
from opendimo.pipelines.quality.repeats import links
from opendimo.pipelines.quality.verdicts import verdicts
from opendimo.storage_schemas.lake.lake import Lake
from tests.pipelines import duplicate_clips as made

CROPS = {  # top, bottom, left, right
    "juggle": {"a tenth at each side": (0.1, 0.1, 0.1, 0.1), "the right": (0.15, 0.15, 0.3, 0.0)},
    "balloon 0": {"the upper left": (0.0, 0.4, 0.0, 0.4), "a narrower one": (0.05, 0.0, 0.25, 0.15)},
    "indoor 1": {"the middle": (0.2, 0.2, 0.15, 0.15)},
}


@pytest.fixture(scope="module")
def originals(data: Path) -> dict[str, tuple[np.ndarray, float]]:
    """Return pictures and frame rate; two windows of each dancer, before the same wall."""
    found = {"juggle": (made.pictures(data / "internet/juggle_static_fullbody.mp4", 100), 24.0)}
    for name, file in (("balloon", "dance_balloon_static"), ("indoor", "generated_dance_indoor")):
        images = made.pictures(data / f"internet/{file}.mp4", 220)
        found |= {f"{name} 0": (images[:100], 30.0), f"{name} 1": (images[120:], 30.0)}
    return found


@pytest.fixture(scope="module")
def crops(originals: dict[str, tuple[np.ndarray, float]]) -> dict[str, tuple[np.ndarray, float]]:
    """Return re-encoded crops, named after their original; every second one is mirrored and enlarged."""
    found = {}
    for of, parts in CROPS.items():
        for number, (how, edges) in enumerate(parts.items()):
            images, fps = originals[of]
            part = made.cropped(images, *edges)
            if number % 2:
                part = made.scaled(part, part.shape[2] * 3 // 2, part.shape[1] * 3 // 2)[:, :, ::-1]
            found[f"{of}, {how}"] = made.encoded(part, fps), fps
    return found


@pytest.fixture(scope="module")
def lake(
    tmp_path_factory: pytest.TempPathFactory,
    originals: dict[str, tuple[np.ndarray, float]],
    crops: dict[str, tuple[np.ndarray, float]],
) -> Lake:
    lake = Lake(tmp_path_factory.mktemp("crops"))
    made.add(lake, [made.clip(name, images, fps) for name, (images, fps) in (originals | crops).items()])
    made.compare(lake)
    return lake


def test_crops_and_only_they_are_linked_to_their_original(
    lake: Lake, originals: dict[str, tuple[np.ndarray, float]], crops: dict[str, tuple[np.ndarray, float]]
) -> None:
    found = links(lake, lake.column("clips", "clip_id"), ["kind", "similarity"]).to_pylist()
    pairs = {frozenset((row["clip_id"], row["other_clip_id"])) for row in found}
    assert [name for name in crops if frozenset((name, name.split(",")[0])) not in pairs] == []
    of_others = [row for row in found if row["clip_id"].split(",")[0] != row["other_clip_id"].split(",")[0]]
    assert [row for row in of_others if row["kind"] == "crop" or row["similarity"] > 0.8] == []


def test_a_crop_is_another_picture_and_kept(lake: Lake, crops: dict[str, tuple[np.ndarray, float]]) -> None:
    table = verdicts(lake, Policy(min_sharpness=0))
    reasons = dict(zip(table["clip_id"].to_pylist(), table["reason"].to_pylist(), strict=True))
    # the one that shows nearly all is a duplicate
    larger = [name for name in crops if name != "juggle, a tenth at each side"]
    assert {name: reasons[name] for name in larger} == dict.fromkeys(larger)


def test_little_in_common_is_no_evidence() -> None:
    still = np.full((60, 16, 16), 90, np.uint8)
    assert cropped_footage(still, 0.1, still, 0.1) is None
    moving = np.random.default_rng(0).integers(0, 255, (12, 16, 16)).astype(np.uint8)
    assert cropped_footage(moving, 0.1, moving, 0.1) is None
