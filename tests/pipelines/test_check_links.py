"""Probing fetched URLs for link rot."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from opendimo.pipelines.engine.planned import Planned
from opendimo.pipelines.engine.planning import finish, prepare, stage_outcome
from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.sources import SourcesConfig, SourcesStage, discover
from opendimo.pipelines.sources.check_links import Checked, check_links
from opendimo.pipelines.sources.downloads import guard
from opendimo.pipelines.sources.downloads.parts import Place, Version
from opendimo.pipelines.sources.downloads.probe_url import Known, probe_url
from opendimo.pipelines.sources.links import HostLinks, links
from opendimo.storage_schemas.lake.lake import Lake
from tests.dags.command import dimo
from tests.pipelines.media_server import ETAG, VIDEO, MediaServer

CONFIG = SourcesConfig(allow_private=True, host_rate=0, timeout_s=3, max_pause_s=0)


def fetched(server: MediaServer, tmp_path: Path, *paths: str, config: SourcesConfig = CONFIG) -> Lake:
    lake, table = Lake(tmp_path / "lake"), tmp_path / "urls.csv"
    table.write_text("url\n" + "".join(f"{server.url}/{path}\n" for path in paths))
    stage = SourcesStage(lake.uri, config)
    with prepare(lake, stage, Planned.of(discover("internet", table, config)), shard_size=10) as run:
        stage_outcome(lake, run.shard(0), stage, stage.run(run.shards[0]))
        finish(lake, run)
    server.requests.clear()
    return lake


def host(lake: Lake) -> HostLinks:
    [found] = links(lake)
    return found


def test_what_is_still_there_stays_fetched_and_no_file_is_sent(server: MediaServer, tmp_path: Path) -> None:
    lake = fetched(server, tmp_path, "tagged/a.mp4", "tagged/b.mp4")
    before = host(lake)
    assert check_links(lake, CONFIG) == Checked(asked=2, not_asked=0, later=0)
    assert sorted(server.heads) == ["/tagged/a.mp4", "/tagged/b.mp4"] and server.requests == []
    after = host(lake)
    assert (after.fetched, after.attempts, after.bytes, after.seconds) == (2, 4, before.bytes, before.seconds)


def test_a_server_that_knows_no_head_is_asked_for_one_byte(server: MediaServer, tmp_path: Path) -> None:
    lake = fetched(server, tmp_path, "video/a.mp4")
    assert check_links(lake, CONFIG).asked == 1
    assert [headers.get("Range") for headers in server.asked("/video/a.mp4")] == ["bytes=0-0"]
    assert host(lake).fetched == 1


@pytest.mark.parametrize(("status", "expected"), [(404, "gone"), (410, "gone"), (451, "blocked"), (403, "blocked")])
def test_what_is_no_longer_there_is_told(server: MediaServer, tmp_path: Path, status: int, expected: str) -> None:
    lake = fetched(server, tmp_path, "tagged/a.mp4", "video/b.mp4")
    server.tagged_status = status
    check_links(lake, CONFIG)
    found = host(lake)
    assert (found.fetched, getattr(found, expected), found.reasons) == (1, 1, {expected: 1})


def test_another_file_behind_a_url_is_told(server: MediaServer, tmp_path: Path) -> None:
    lake = fetched(server, tmp_path, "tagged/a.mp4")
    server.tag = '"two"'
    check_links(lake, CONFIG)
    assert (host(lake).refused, host(lake).reasons) == (1, {"changed": 1})


def test_another_length_is_another_file(server: MediaServer) -> None:
    row = probe_url(f"{server.url}/plain/a.mp4", Known("sha", len(VIDEO) - 1), CONFIG)
    assert row is not None and (row["status"], row["reason"]) == ("refused", "changed")
    row = probe_url(f"{server.url}/plain/a.mp4", Known("sha", len(VIDEO)), CONFIG)
    assert row is not None and (row["status"], row["sha256"], row["bytes"]) == ("fetched", "sha", 0)


def test_a_redirect_to_a_private_address_is_not_followed(server: MediaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    check = guard.check_address
    monkeypatch.setattr(guard, "check_address", lambda host, ip: None if ip == "127.0.0.1" else check(host, ip))
    url = f"{server.url}/to?http://127.0.0.2:{server.server_port}/video"
    row = probe_url(url, Known(), SourcesConfig(host_rate=0, timeout_s=3))
    assert row is not None and row["reason"] == "private_address"
    assert {path.partition("?")[0] for path in [*server.heads, *(path for path, _ in server.requests)]} == {"/to"}


def test_cookies_that_cannot_be_read_say_nothing_about_the_links(server: MediaServer, tmp_path: Path) -> None:
    lake = fetched(server, tmp_path, "tagged/a.mp4")
    cookies = tmp_path / "cookies.txt"
    cookies.write_text("no cookies")
    with pytest.raises(DataError, match="cookies"):
        check_links(lake, replace(CONFIG, cookies=str(cookies)))
    assert host(lake).fetched == 1 and server.heads == []


def test_a_host_that_wants_a_pause_is_left_alone(server: MediaServer, tmp_path: Path) -> None:
    lake = fetched(server, tmp_path, "tagged/a.mp4")
    server.tagged_status = 429
    assert check_links(lake, CONFIG) == Checked(asked=1, not_asked=0, later=0)
    assert check_links(lake, CONFIG) == Checked(asked=0, not_asked=0, later=1)
    assert len(server.heads) == 1 and host(lake).transient == 1


def test_urls_that_were_stored_without_their_secrets_are_not_asked(server: MediaServer, tmp_path: Path) -> None:
    lake = fetched(server, tmp_path, "video/a.mp4?token=secret")
    assert check_links(lake, CONFIG) == Checked(asked=0, not_asked=1, later=0)
    assert server.requests == []


def test_what_a_killed_process_had_on_its_disk_is_asked_for(server: MediaServer, tmp_path: Path) -> None:
    part = Place(tmp_path / "cache", f"{server.url}/video/a.mp4")
    with part.lock():
        begun = part.open()
        begun.begin(Version(len(VIDEO), ETAG))
        begun.append(VIDEO)
        begun.abandon()
    lake = fetched(server, tmp_path, "video/a.mp4", config=replace(CONFIG, cache=str(tmp_path / "cache")))
    assert lake.read("fetches")[0]["bytes"] == 0
    assert check_links(lake, CONFIG).asked == 1


def test_the_command_asks_with_the_cookies_of_the_user_and_leaves_pages_alone(
    server: MediaServer, tmp_path: Path
) -> None:
    cookies = tmp_path / "cookies.txt"
    cookies.write_text("# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t0\tsession\tSECRET\n")
    lake = fetched(server, tmp_path, "headless/a.mp4", "video/page", config=replace(CONFIG, cookies=str(cookies)))
    options = ("--cookies", str(cookies), "--platform", "127.0.0.1", "--allow-private", "--json")
    [row] = json.loads(dimo("sources", "--lake", lake.uri, "--links", "--check", *options).stdout)
    assert (row["fetched"], row["attempts"], server.heads) == (2, 3, ["/headless/a.mp4"])


def test_the_command_asks_before_it_shows(server: MediaServer, tmp_path: Path) -> None:
    lake = fetched(server, tmp_path, "tagged/a.mp4")
    server.tagged_status = 410
    assert '"gone": 1' in dimo("sources", "--lake", lake.uri, "--links", "--check", "--allow-private", "--json").stdout
    assert "--check requires --links" in dimo("sources", "--lake", lake.uri, "--check").stderr
