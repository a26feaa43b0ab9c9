"""Policies filter the pairs of a release and are read from TOML files."""

from pathlib import Path

import pytest

from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.releases.policy import ReleasePolicy
from opendimo.storage_schemas.releases.release import create_release, list_releases, open_release
from opendimo.storage_schemas.settings import load_settings
from tests.rows import clip, pair, pose, source
from tests.storage_schemas.release_rows import small_lake

LICENCES = {"d": "CC0-1.0", "e": None, "f": "CC-BY-NC-4.0", "g": "CC0-1.0", "h": "CC0-1.0", "i": "CC0-1.0"}


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = small_lake(tmp_path / "lake")
    sharp = {"g": 5.0}
    lake.append("more", {
        "sources": [source(n, licence=licence) for n, licence in LICENCES.items()],
        "clips": [clip(n, sharpness=sharp.get(n, 50.0)) for n in LICENCES],
        "poses": [pose(n, weight=0.1 if n == "h" else 0.5, reprojection=None if n == "d" else 0.02) for n in LICENCES],
    })  # fmt: skip
    shares = {"d": 0.9, "f": 0.1}  # the others were not measured
    hands = [{"clip_id": n, "hands_visible": share, "work_key": n} for n, share in shares.items()]
    lake.append("measured", {"hands": hands})
    pairs = [pair(n, pose_id=None if n == "i" else f"pose-{n}") for n in LICENCES]
    cross = pair("x", driving_clip_id="d", target_clip_id="f", kind="cross_view", capture_id="d", pose_id="pose-d")
    lake.append("again", {"pairs": [*pairs, cross]})
    return lake


def kept(lake: Lake, policy: ReleasePolicy) -> tuple[list[str], dict[str, int]]:
    release = open_release(lake.uri, create_release(lake, "demo", policy)["release_id"])
    manifest = release.manifest
    assert manifest["candidates"] == manifest["pairs"] + sum(manifest["dropped"].values())
    return [pair_id.removeprefix("pair-") for pair_id in release.scan("pairs")["pair_id"].to_pylist()], manifest[
        "dropped"
    ]


@pytest.mark.parametrize(
    ("policy", "pairs", "dropped"),
    [
        (ReleasePolicy(), "defghix", {}),
        (ReleasePolicy(licences=("CC0-1.0",)), "deghi", {"licence": 2}),  # of both clips of a pair
        (ReleasePolicy(unknown_licence=False), "dfghix", {"unknown_licence": 1}),
        (ReleasePolicy(licences=("CC0-1.0",), unknown_licence=False), "dghi", {"licence": 2, "unknown_licence": 1}),
        (ReleasePolicy(floors={"clips.sharpness": 20}), "defhix", {"below clips.sharpness": 1}),
        (ReleasePolicy(floors={"poses.weight": 0.3}), "defgx", {"below poses.weight": 2}),  # one has no label
        (ReleasePolicy(ceilings={"poses.reprojection": 0.01}), "dx", {"above poses.reprojection": 5}),  # null passes
        (ReleasePolicy(floors={"hands.hands_visible": 0.5}), "deghi", {"below hands.hands_visible": 2}),  # f's and x
        (ReleasePolicy(floors={"clips.sharpness": 20, "poses.weight": 0.3}), "defx",
         {"below clips.sharpness": 1, "below poses.weight": 2}),
    ],
)  # fmt: skip
def test_a_policy_drops_by_reason(lake: Lake, policy: ReleasePolicy, pairs: str, dropped: dict[str, int]) -> None:
    assert kept(lake, policy) == (list(pairs), dropped)


def test_too_few_pairs_are_refused_with_counts_and_nothing_is_written(lake: Lake) -> None:
    policy = ReleasePolicy(licences=("CC0-1.0",), counts={"same_view": 5, "cross_view": 1, "test": 2, "train": 1})
    with pytest.raises(ValueError, match="0 cross_view instead of 1, 0 test instead of 2; dropped: licence 2"):
        create_release(lake, "demo", policy)
    with pytest.raises(ValueError, match=r"all 7 candidates were dropped \(licence 6, unknown_licence 1\)"):
        create_release(lake, "demo", ReleasePolicy(licences=("none",), unknown_licence=False))
    assert list_releases(lake) == []
    assert lake.store.sizes("releases") == {}
    assert lake.dataset("pairs").tags.list() == {}


def test_a_policy_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "release.toml"
    path.write_text(
        'licences = ["CC0-1.0"]\nunknown_licence = false\napproval = true\n'
        '[floors]\n"poses.weight" = 0.3\n"clips.sharpness" = 20\n[ceilings]\n"poses.jitter" = 9\n[counts]\ntest = 3\n'
    )
    assert load_settings(path, ReleasePolicy) == ReleasePolicy(
        ("CC0-1.0",), False, True, {"poses.weight": 0.3, "clips.sharpness": 20}, {"poses.jitter": 9}, {"test": 3}
    )
    path.write_text("")
    assert load_settings(path, ReleasePolicy) == ReleasePolicy()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("licenses = []", "unknown key 'licenses'; known keys: licences, unknown_licence"),
        ("licences = 'CC0-1.0'", "licences must be a list, got 'CC0-1.0'"),
        ("licences = [1]", "licences.0 must be a string, got 1"),
        ("approval = 'yes'", "approval must be true or false, got 'yes'"),
        ("unknown_licence = 1", "unknown_licence must be true or false"),
        ("floors = 3", "floors must be a table, got 3"),
        ("[floors]\n'poses.weight' = true", "floors.poses.weight must be a number, got True"),
        ("[floors]\n'poses.wieght' = 1", "no number 'poses.wieght'"),
        ("[floors]\n'clips.name' = 1", "no number 'clips.name'"),
        ("[ceilings]\n'sources.size' = 1", "no number 'sources.size'"),
        ("[counts]\ntest = 1.5", "counts.test must be an integer, got 1.5"),
        ("[counts]\ntest = -1", "counts.test must be 0 or more, got -1"),
        ("[counts]\nside_view = 1", "no kind of pair or split 'side_view'"),
        ("licences = [", "is not TOML"),
    ],
)
def test_mistakes_in_a_policy_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "release.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"release\.toml") as error:
        load_settings(path, ReleasePolicy)
    assert message in str(error.value) and "\n" not in str(error.value).split(":")[0]
