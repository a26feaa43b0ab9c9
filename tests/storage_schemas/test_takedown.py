"""Takedowns by source, content, licence and subject, of stored and of later sources."""

import string
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opendimo.storage_schemas.lake import commit, runs, takedown
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.takedown import concerned, lift, reasons, take_down, taken_down
from opendimo.storage_schemas.releases.files import releases_with
from opendimo.storage_schemas.releases.release import create_release
from tests.rows import source
from tests.storage_schemas.upkeep_lake import small_lake


def down(lake: Lake) -> list[str]:
    return sorted(taken_down(lake).to_pylist())


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return small_lake(str(tmp_path / "lake"))


def test_nothing_is_down_at_first(lake: Lake) -> None:
    assert taken_down(lake).type == pa.string()
    assert down(lake) == []


def test_a_lake_without_sources_has_nothing_down(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    take_down(lake, "licence", "CC0", "why", "ann", ahead=True)
    assert down(lake) == []


@pytest.mark.parametrize(
    ("what", "value", "expected"),
    [
        ("source_id", "s-a", ["s-a"]),
        ("content_sha256", "file of b", ["s-b"]),
        ("licence", "CC-BY-4.0", ["s-a", "s-b", "s-c"]),
        ("subject", "ann", ["s-d"]),
    ],
)
def test_what_has_the_value_is_down_until_it_is_lifted(lake: Lake, what: str, value: str, expected: list[str]) -> None:
    lake.append("more", {"sources": [source("d", licence=None, subject="ann")]})
    assert take_down(lake, what, value, "asked for", "bob") == len(expected)
    assert down(lake) == expected
    assert lift(lake, what, value, "agreed", "bob") == len(expected)
    assert down(lake) == []
    take_down(lake, what, value, "asked for", "bob")
    assert down(lake) == expected


def test_what_comes_later_with_the_same_licence_is_down_as_well(lake: Lake) -> None:
    take_down(lake, "licence", "CC-BY-NC-4.0", "no commercial use", "bob", ahead=True)
    lake.append("later", {"sources": [source("d", licence="CC-BY-NC-4.0"), source("e")]})
    assert down(lake) == ["s-d"]


def test_a_file_that_is_ingested_again_stays_down(lake: Lake) -> None:
    take_down(lake, "source_id", "s-a", "asked for", "bob")
    lake.append("again", {"sources": [source("a", uri="elsewhere", work_key="newer")]})
    lake.append("copy", {"sources": [source("d", content_sha256="file of a")]})
    assert down(lake) == ["s-a"]
    take_down(lake, "content_sha256", "file of a", "asked for", "bob")
    assert down(lake) == ["s-a", "s-d"]


def test_a_value_that_nothing_has_is_refused(lake: Lake) -> None:
    with pytest.raises(ValueError, match=r"no source has licence 'GPL'"):
        take_down(lake, "licence", "GPL", "why", "bob")
    assert reasons(lake) == []


@pytest.mark.parametrize(
    ("what", "value", "reason", "by", "message"),
    [
        ("colour", "red", "why", "bob", "cannot take down by 'colour'"),
        ("licence", "", "why", "bob", "empty licence"),
        ("licence", "CC-BY-4.0", " ", "bob", "needs a reason"),
        ("licence", "CC-BY-4.0", "why", "", "needs a reason and the name"),
    ],
)
def test_half_a_decision_is_refused(lake: Lake, what: str, value: str, reason: str, by: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        take_down(lake, what, value, reason, by)


def test_only_what_is_down_can_be_lifted(lake: Lake) -> None:
    with pytest.raises(ValueError, match="nothing to lift"):
        lift(lake, "source_id", "s-a", "why", "bob")


def test_the_same_decision_again_changes_nothing(lake: Lake) -> None:
    take_down(lake, "source_id", "s-a", "asked for", "bob")
    version = lake.dataset("tombstones").version
    take_down(lake, "source_id", "s-a", "asked for", "bob")
    assert lake.dataset("tombstones").version == version


def test_another_reason_replaces_the_first(lake: Lake) -> None:
    take_down(lake, "source_id", "s-a", "asked for", "bob")
    take_down(lake, "source_id", "s-a", "court order", "ann")
    assert [(row["reason"], row["by"]) for row in reasons(lake)] == [("court order", "ann")]


def test_a_decision_that_was_killed_before_its_commit_does_not_come_back_after_a_later_one(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(commit, "commit", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            take_down(lake, "source_id", "s-a", "first", "bob")
    [left] = runs.unfinished(lake)
    take_down(lake, "source_id", "s-a", "second", "ann")
    lift(lake, "source_id", "s-a", "settled", "ann")
    commit.commit(lake, left["run_id"])
    assert runs.unfinished(lake) == []
    assert down(lake) == []


def test_a_decision_whose_run_was_ended_with_nothing_staged_can_be_taken_again(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(runs, "stage_shard", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            take_down(lake, "source_id", "s-a", "first", "bob")
    commit.commit(lake, runs.unfinished(lake)[0]["run_id"], partial=True)
    take_down(lake, "source_id", "s-a", "second", "ann")
    assert down(lake) == ["s-a"]


def test_the_clips_and_releases_concerned_are_named(lake: Lake) -> None:
    create_release(lake, "demo")
    found = concerned(lake, "source_id", "s-b")
    assert (found.sources.to_pylist(), found.clips.to_pylist()) == (["s-b"], ["b"])
    assert releases_with(lake, found.clips) == {"demo@1": 1}
    take_down(lake, "source_id", "s-b", "asked for", "bob")
    assert create_release(lake, "demo")["pairs"] == 2
    assert releases_with(lake, found.clips) == {"demo@1": 1}


@settings(max_examples=25, deadline=None)
@given(
    values=st.lists(
        st.tuples(*[st.sampled_from(string.ascii_lowercase[:3])] * 2, st.sampled_from(["x", None])), max_size=8
    ),
    stones=st.lists(st.tuples(st.sampled_from(takedown.KINDS), st.sampled_from(["a", "b", "s-1", "x"])), max_size=4),
)
def test_a_source_is_down_exactly_where_a_tombstone_names_one_of_its_values(
    tmp_path_factory: pytest.TempPathFactory, values: list[tuple[str, str, str | None]], stones: list[tuple[str, str]]
) -> None:
    lake = Lake(tmp_path_factory.mktemp("lake"))
    rows = [
        source(str(k), content_sha256=content, licence=licence, subject=subject)
        for k, (content, licence, subject) in enumerate(values)
    ]
    lake.append("sources", {"sources": rows})
    for what, value in stones:
        take_down(lake, what, value, "why", "bob", ahead=True)
    expected = sorted(row["source_id"] for row in rows if any(row.get(what) == value for what, value in stones))
    assert down(lake) == expected
