"""Approval and rollback of releases."""

from pathlib import Path

import pytest

from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.releases.approval import approve_release, rollback
from opendimo.storage_schemas.releases.policy import ReleasePolicy
from opendimo.storage_schemas.releases.release import create_release, list_releases, open_release
from tests.rows import pair
from tests.storage_schemas.release_rows import add, small_lake

ASKING = ReleasePolicy(approval=True)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return small_lake(tmp_path)


def states(lake: Lake) -> dict[str, str]:
    return {row["release_id"]: row["state"] for row in list_releases(lake)}


def three(lake: Lake) -> None:
    create_release(lake, "demo")
    for n in (2, 3):
        add(lake, f"more {n}", f"z{n}")
        lake.append(f"again {n}", {"pairs": [pair(f"z{n}")]})
        create_release(lake, "demo")


def test_a_release_that_waits_for_approval_is_refused_until_it_has_it(lake: Lake) -> None:
    create_release(lake, "demo", ASKING)
    with pytest.raises(ValueError, match="demo@1 waits for approval: `dimo release approve demo@1 --by NAME`"):
        open_release(lake.uri, "demo@1")
    assert approve_release(lake, "demo@1", "ann", "looked at 50 clips")
    assert open_release(lake.uri, "demo@1").manifest["pairs"] == 3
    [row] = list_releases(lake)
    assert (row["state"], row["decision"]["by"], row["decision"]["note"]) == ("usable", "ann", "looked at 50 clips")


def test_approving_twice_is_one_decision(lake: Lake) -> None:
    create_release(lake, "demo", ASKING)
    assert [approve_release(lake, "demo@1", by) for by in ("ann", "bob")] == [True, False]
    assert [row["by"] for row in lake.read("decisions")] == ["ann"]


def test_somebody_has_to_decide_and_there_has_to_be_a_release(lake: Lake) -> None:
    create_release(lake, "demo", ASKING)
    with pytest.raises(ValueError, match="needs the name of the person who decides"):
        approve_release(lake, "demo@1", " ")
    with pytest.raises(ValueError, match="no release demo@2"):
        approve_release(lake, "demo@2", "ann")


def test_a_rollback_withdraws_the_newest_usable_version(lake: Lake) -> None:
    three(lake)
    assert rollback(lake, "demo", None, "bob", "bad hands") == ("demo@2", ["demo@3"])
    assert states(lake) == {"demo@1": "usable", "demo@2": "usable", "demo@3": "withdrawn"}
    with pytest.raises(ValueError, match="demo@3 was withdrawn by bob: bad hands"):
        open_release(lake.uri, "demo@3")
    with pytest.raises(ValueError, match="newest usable one is demo@2"):
        open_release(lake.uri, "demo")


def test_a_rollback_to_a_version_withdraws_all_later_ones_once(lake: Lake) -> None:
    three(lake)
    assert rollback(lake, "demo", 1, "bob", "bad hands") == ("demo@1", ["demo@2", "demo@3"])
    assert rollback(lake, "demo", 1, "bob", "bad hands") == ("demo@1", [])
    assert len(lake.read("decisions")) == 2


def test_a_rollback_needs_a_usable_version_and_a_reason(lake: Lake) -> None:
    create_release(lake, "demo")
    with pytest.raises(ValueError, match=r"cannot roll back demo: it has 1 usable version"):
        rollback(lake, "demo", None, "bob", "bad")
    with pytest.raises(ValueError, match="demo@7 is not usable; usable versions: 1"):
        rollback(lake, "demo", 7, "bob", "bad")
    with pytest.raises(ValueError, match="a rollback needs a reason"):
        rollback(lake, "demo", None, "bob", "")


def test_withdrawn_content_is_not_released_again_until_somebody_approves_it(lake: Lake) -> None:
    three(lake)
    rollback(lake, "demo", 2, "bob", "bad hands")
    with pytest.raises(ValueError, match=r"content equals that of demo@3, which bob withdrew \(bad hands\)"):
        create_release(lake, "demo")
    assert approve_release(lake, "demo@3", "ann")
    assert create_release(lake, "demo")["release_id"] == "demo@3"


@pytest.mark.slow
def test_all_this_holds_on_an_object_store(s3: str) -> None:
    lake = small_lake(s3)
    create_release(lake, "demo", ASKING)
    with pytest.raises(ValueError, match="waits for approval"):
        open_release(s3, "demo@1")
    assert approve_release(lake, "demo@1", "ann")
    assert len(open_release(s3, "demo@1").read("pairs")) == 3
    add(lake, "more", "z")
    lake.append("again", {"pairs": [pair("z")]})
    create_release(lake, "demo")
    assert rollback(lake, "demo", None, "ann", "bad hands") == ("demo@1", ["demo@2"])
    with pytest.raises(ValueError, match="withdrawn by ann: bad hands"):
        open_release(s3, "demo@2")
