"""Test the output, JSON, exit codes and error messages of `dimo release ...`."""

import json
from pathlib import Path

import pytest

from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.takedown import take_down
from opendimo.storage_schemas.releases.policy import ReleasePolicy
from opendimo.storage_schemas.releases.release import create_release, list_releases
from tests.dags.command import dimo
from tests.storage_schemas.release_rows import add, pair, small_lake

COMMANDS = ("create", "list", "show", "diff", "verify", "approve", "reject", "rollback", "export")


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Return a lake with the releases demo@1, demo@2 and waiting@1. Shared by the module: do not write to it."""
    lake = small_lake(tmp_path_factory.mktemp("lake"))
    create_release(lake, "demo")
    add(lake, "more", "z")
    lake.append("again", {"pairs": [pair("z"), pair("a", pair_id="2a", weight=0.9)]})
    create_release(lake, "demo")
    create_release(lake, "waiting", ReleasePolicy(approval=True))
    return lake


def ask(lake: Lake, *args: str) -> str:
    answer = dimo("release", *args, "--lake", lake.uri)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command: str) -> None:
    assert f"dimo release {command}" in dimo("release", command, "--help").stdout


def test_list_says_what_may_be_used(lake: Lake) -> None:
    assert "pending" in ask(lake, "list")
    listed = json.loads(ask(lake, "list", "--json"))
    assert [(r["release"], r["state"], r["pairs"]) for r in listed] == [
        ("demo@1", "usable", 3), ("demo@2", "usable", 2), ("waiting@1", "pending", 2),
    ]  # fmt: skip


def test_show_has_the_counts(lake: Lake) -> None:
    output = ask(lake, "show", "demo@1")
    assert "same_view" in output and "CC-BY-4.0" in output and "monocular" in output
    assert json.loads(ask(lake, "show", "waiting@1", "--json"))["state"] == "pending"


def test_diff_says_what_changed_and_why(lake: Lake) -> None:
    assert "new source 1" in ask(lake, "diff", "demo@1", "demo@2", "--rows", "2")
    result = json.loads(ask(lake, "diff", "demo@1", "demo@2", "--json"))
    assert (result["added"], result["removed"], result["by_field"]) == (1, 2, {"weight": 1})


def test_verify_ends_with_1_where_a_file_was_changed(tmp_path: Path) -> None:
    lake = small_lake(tmp_path / "lake")
    create_release(lake, "demo")
    take_down(lake, "subject", "ann", "asked for", "bob", ahead=True)
    take_down(lake, "source_id", "s-b", "asked for", "bob")
    output = ask(lake, "verify", "demo@1", "--deep")
    assert "warning: source s-b has been taken down since" in output and "3 videos, all intact" in output
    path = lake.local / next(name for name in lake.store.sizes("tables/poses.lance/data"))
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    answer = dimo("release", "verify", "demo@1", "--json", "--lake", lake.uri)
    assert answer.returncode == 1
    result = json.loads(answer.stdout)
    assert len(result["damaged"]) == 1 and path.name in result["damaged"][0]


def test_export_writes_files(lake: Lake, tmp_path: Path) -> None:
    ask(lake, "export", "demo@1", "--format", "huggingface", "--out", str(tmp_path / "out"))
    assert (tmp_path / "out" / "train" / "metadata.jsonl").exists()


def test_rollback_withdraws(tmp_path: Path) -> None:
    lake = small_lake(tmp_path / "lake")
    create_release(lake, "demo")
    lake.append("again", {"pairs": [pair("a", pair_id="2a")]})
    create_release(lake, "demo")
    output = ask(lake, "rollback", "demo", "--by", "ann", "--reason", "bad hands")
    assert output == "withdrawn: demo@2; the newest usable release is demo@1\n"


def test_a_person_turns_a_release_down(tmp_path: Path) -> None:
    lake = small_lake(tmp_path / "lake")
    create_release(lake, "asking", ReleasePolicy(approval=True))
    decision = ("reject", "asking@1", "--by", "ann", "--reason", "clips of children")
    assert [ask(lake, *decision) for _ in range(2)] == [
        "asking@1 is rejected\n",
        "asking@1 was already rejected or withdrawn\n",
    ]
    [row] = list_releases(lake)
    assert (row["state"], row["decision"]["by"], row["decision"]["note"]) == ("withdrawn", "ann", "clips of children")
    assert not (lake.local / "session").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("show", "nothing@1"), "no release nothing@1"),
        (("show", "demo"), "the newest usable one is demo@2"),
        (("diff", "demo@1", "demo@7"), "no release demo@7"),
        (("verify", "demo@7"), "no release demo@7"),
        (("approve", "demo@7", "--by", "ann"), "no release demo@7"),
        (("reject", "demo@7", "--by", "ann", "--reason", "bad"), "no release demo@7"),
        (("reject", "waiting@1", "--by", "ann", "--reason", " "), "a rejection needs a reason"),
        (("reject", "waiting@1", "--by", " ", "--reason", "bad"), "needs the name of the person"),
        (("rollback", "demo", "--to", "7", "--by", "ann", "--reason", "bad"), "demo@7 is not usable"),
        (("export", "waiting@1", "--out", "out"), "waiting@1 waits for approval"),
    ],
)
def test_mistakes_are_one_line(lake: Lake, args: tuple[str, ...], message: str) -> None:
    answer = dimo("release", *args, "--lake", lake.uri)
    assert (answer.returncode, len(answer.stderr.strip().splitlines())) == (1, 1)
    assert message in answer.stderr
    assert not (lake.local / "session").exists()


def test_a_mistake_in_the_policy_is_found_before_anything_starts(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "release.toml").write_text("licenses = []")
    answer = dimo("release", "create", "demo", "--policy", str(tmp_path / "release.toml"), "--lake", lake.uri)
    assert answer.returncode == 1 and "unknown key 'licenses'" in answer.stderr
    assert not (lake.local / "session").exists()


@pytest.mark.parametrize(
    ("release", "message"),
    [
        ("waiting@1", "waiting@1 waits for approval"),
        ("demo", "'demo' has no version"),
        ("demo@9", "no release demo@9"),
    ],
)
def test_training_refuses_what_it_may_not_use_before_anything_starts(lake: Lake, release: str, message: str) -> None:
    answer = dimo("train", "--release", release, "--base", ".", "--out", "out", "--lake", lake.uri)
    assert (answer.returncode, len(answer.stderr.strip().splitlines())) == (1, 1)
    assert message in answer.stderr
    assert not (lake.local / "session").exists()
