"""Creating a release that is killed at any point and repeated gives one complete release."""

from pathlib import Path

import pytest

from opendimo.storage_schemas.lake import runs
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.releases.approval import approve_release
from opendimo.storage_schemas.releases.pins import PINNED
from opendimo.storage_schemas.releases.policy import ReleasePolicy
from opendimo.storage_schemas.releases.release import Release, create_release, list_releases, open_release
from opendimo.storage_schemas.releases.verify import verify
from tests.rows import pair
from tests.storage_schemas.killing import killed
from tests.storage_schemas.release_rows import add, small_lake

POLICY = ReleasePolicy(approval=True)


def make(home: str) -> None:
    lake = Lake(home)
    create_release(lake, "demo", POLICY)
    approve_release(lake, "demo@1", "ann")


def check(lake: Lake) -> None:
    """Check that there is one complete, approved release and nothing else."""
    [row] = list_releases(lake)
    assert (row["release_id"], row["state"], len(lake.read("decisions"))) == ("demo@1", "usable", 1)
    findings = verify(lake, "demo@1", deep=True)
    assert findings.damaged == []
    assert runs.unfinished(lake) == []
    assert all(list(lake.dataset(table).tags.list()) == ["release.demo.1"] for table in PINNED)
    pair_files = {name for name in lake.store.sizes("releases") if "/pairs.lance/data/" in name}
    assert len(pair_files) == 1, "the pairs of a killed attempt must be deleted"


@pytest.fixture
def before(tmp_path: Path) -> Release:
    """The release of an undisturbed run."""
    undisturbed = small_lake(tmp_path / "undisturbed").uri
    make(undisturbed)
    return open_release(undisturbed, "demo@1")


def dies_and_comes_back(home: str, step: int, before: Release) -> bool:
    """Kill the creation before this step, repeat it and check the result; return whether it was killed."""
    small_lake(home)
    if not killed(step, make, home):
        return False
    make(home)
    check(Lake(home))
    release = open_release(home, "demo@1")
    assert (release.manifest, release.read("pairs")) == (before.manifest, before.read("pairs"))
    return True


@pytest.mark.parametrize("step", [4, 9, 12, 16])
def test_killed_while_it_is_made_and_made_again(tmp_path: Path, before: Release, step: int) -> None:
    assert dies_and_comes_back(str(tmp_path / "lake"), step, before)


@pytest.mark.slow
def test_killed_before_every_change_and_made_again(tmp_path: Path, before: Release) -> None:
    step = 0
    while dies_and_comes_back(str(tmp_path / str(step)), step, before):
        step += 1
    assert step > 20


@pytest.mark.parametrize("step", [9, 12])
def test_killed_and_made_again_after_others_wrote(tmp_path: Path, step: int) -> None:
    lake = small_lake(tmp_path / "lake")
    assert killed(step, make, lake.uri)
    add(lake, "more", "z")
    lake.append("again", {"pairs": [pair("z")]})
    make(lake.uri)
    newest = list_releases(lake)[-1]
    assert open_release(lake.uri, "demo@1").manifest["pairs"] in (1, 3)
    assert all(verify(lake, row["release_id"]).damaged == [] for row in list_releases(lake))
    assert newest["pairs"] == 1  # the newest release has the current pairs, whether the killed one was completed or not
