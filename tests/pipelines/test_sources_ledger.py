"""The table `fetches`: one row per attempt, time of the next attempt, and link rot."""

import json
import time
from pathlib import Path

import pytest

from opendimo.pipelines.engine.planned import Planned
from opendimo.pipelines.engine.planning import finish, prepare, stage_outcome
from opendimo.pipelines.engine.rejects import Choice, group_rejects, rejects, retry
from opendimo.pipelines.engine.retries import MAX_ATTEMPTS
from opendimo.pipelines.sources import SourcesConfig, SourcesStage, discover
from opendimo.pipelines.sources.downloads import hosts, platforms
from opendimo.pipelines.sources.downloads.urls import host_of
from opendimo.pipelines.sources.links import links
from opendimo.storage_schemas.ids import sha256_bytes
from opendimo.storage_schemas.lake.lake import Lake
from tests.dags.command import dimo
from tests.pipelines.media_server import VIDEO, MediaServer

FAST = SourcesConfig(allow_private=True, host_rate=0, timeout_s=5, max_pause_s=0)

PAGES = SourcesConfig(**{**vars(FAST), "platforms": ("127.0.0.1",)})


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake")


def listed(tmp_path: Path, *urls: str) -> Path:
    path = tmp_path / "list.csv"
    path.write_text("\n".join(["url", *urls]))
    return path


def ingest(lake: Lake, path: Path, dies: bool = False, config: SourcesConfig = FAST) -> int:
    """Run the remaining work and return its size. `dies`: the worker is killed before it stages anything."""
    stage = SourcesStage(lake.uri, config)
    with prepare(lake, stage, Planned.of(discover("internet", path, config)), shard_size=2) as run:
        for k, shard in enumerate(run.shards):
            outcome = stage.run(shard)
            if dies:
                return 0
            stage_outcome(lake, run.shard(k), stage, outcome)
        if run.shards:
            finish(lake, run)
        return run.size


def test_every_attempt_is_a_row(server: MediaServer, lake: Lake, tmp_path: Path):
    paths = ("video/a", "video/a?key=SECRET", "status/404", "status/403", "zip")
    other = f"http://127.0.0.2:{server.server_port}/later/600"
    path = listed(tmp_path, *(f"{server.url}/{name}" for name in paths), other)
    assert ingest(lake, path) == 6
    rows = lake.read("fetches")
    found = {row["url"].removeprefix(server.url + "/"): (row["status"], row["reason"]) for row in rows}
    assert found == {
        "video/a": ("fetched", None),
        "video/a?key=hidden": ("fetched", None),
        "status/404": ("gone", "gone"),
        "status/403": ("blocked", "blocked"),
        "zip": ("refused", "archive"),
        other: ("transient", "rate_limited"),
    }
    assert {row["sha256"] for row in rows if row["status"] == "fetched"} == set(
        lake.column("sources", "content_sha256").to_pylist()
    )
    assert {row["reason"] for row in rejects(lake).to_pylist()} == {"gone", "blocked", "archive", "rate_limited"}
    assert "SECRET" not in str(rows) + str(lake.read("sources")) + str(lake.read("rejects")) + str(lake.read("ledger"))
    assert ingest(lake, path) == 0 and lake.dataset("fetches").count_rows() == 6


def test_a_download_whose_worker_died_before_it_told_of_it_is_told_of_once(server, lake, tmp_path):
    path = listed(tmp_path, f"{server.url}/video/a")
    ingest(lake, path, dies=True)
    ingest(lake, path)
    [row] = lake.read("fetches")
    assert (row["status"], row["bytes"], len(server.requests)) == ("fetched", len(VIDEO), 1)


def test_the_next_attempt_is_when_the_server_says(server, lake, tmp_path):
    ingest(lake, listed(tmp_path, f"{server.url}/later/7200"))
    [reject] = rejects(lake).to_pylist()
    assert reject["next_attempt_at"] / 1e9 == pytest.approx(time.time() + 7200, abs=10)
    assert lake.read("fetches")[0]["next_attempt_at"] == reject["next_attempt_at"]


def test_a_short_retry_after_does_not_shorten_our_own_patience(server, lake, tmp_path):
    ingest(lake, listed(tmp_path, f"{server.url}/later/1"))
    [reject] = rejects(lake).to_pylist()
    assert reject["next_attempt_at"] / 1e9 == pytest.approx(time.time() + 60, abs=10)


def test_what_was_not_asked_for_stays_due(server, lake, tmp_path):
    """A paused host may delay a file any number of times."""
    ingest(lake, listed(tmp_path, f"{server.url}/later/600"))
    path = listed(tmp_path, f"{server.url}/video/a")
    for _ in range(MAX_ATTEMPTS + 1):
        ingest(lake, path)
        retry(lake, Choice(reason="paused"))
    [reject] = [row for row in rejects(lake).to_pylist() if row["reason"] == "paused"]
    assert reject["attempts"] == MAX_ATTEMPTS + 1 and reject["next_attempt_at"] is not None
    assert [path for path, _ in server.requests] == ["/later/600"]


def test_pauses_do_not_use_up_the_attempts_of_a_file(server, lake, tmp_path):
    busy = f"{server.url}/status/503"
    hosts.pause(host_of(busy), 600)
    path = listed(tmp_path, busy)
    for _ in range(MAX_ATTEMPTS):
        ingest(lake, path)
        retry(lake, Choice())
    Path(hosts._path(host_of(busy))).unlink()  # end the pause
    waits = []
    for _ in range(MAX_ATTEMPTS):
        ingest(lake, path)
        [reject] = rejects(lake).to_pylist()
        waits.append(reject["next_attempt_at"] is not None)
        retry(lake, Choice())
    assert (reject["reason"], waits) == ("server_error", [True, True, False])


def test_a_retry_fetches_what_was_no_video_again(server, lake, tmp_path):
    path = listed(tmp_path, f"{server.url}/mended/a.mp4")
    ingest(lake, path)
    assert retry(lake, Choice(reason="not_a_video")).due.num_rows == 1
    ingest(lake, path)
    assert (rejects(lake).num_rows, lake.column("sources", "content_sha256").to_pylist()) == (0, [sha256_bytes(VIDEO)])


def test_a_retry_fetches_what_the_list_did_not_mean_again(server, lake, tmp_path):
    path = tmp_path / "list.csv"
    path.write_text(f"url,sha256\n{server.url}/video/a.mp4,{'0' * 64}\n{server.url}/video/b.mp4,\n")
    ingest(lake, path)
    retry(lake, Choice(reason="wrong_content"))
    ingest(lake, path)
    assert len(server.asked("/video/a.mp4")) == 2
    [kept] = lake.column("sources", "local_path").to_pylist()
    assert Path(kept).read_bytes() == VIDEO  # the file of the other URL is kept


def test_rejects_are_grouped_by_reason(server, lake, tmp_path):
    ingest(lake, listed(tmp_path, *(f"{server.url}/status/{status}" for status in (404, 410, 403))))
    assert [(group.reason, group.count) for group in group_rejects(rejects(lake))] == [("gone", 2), ("blocked", 1)]


def test_link_rot_by_host(server, lake, tmp_path):
    other = f"http://127.0.0.2:{server.server_port}"
    paths = [f"{server.url}/{name}" for name in ("video/a", "video/b", "status/404", "status/500")]
    ingest(lake, listed(tmp_path, *paths, f"{other}/status/403"))
    first, second = links(lake)
    assert (first.host, first.urls, first.fetched, first.gone, first.transient) == (server.url[7:], 4, 2, 1, 1)
    assert (first.bytes, first.reasons) == (2 * len(VIDEO), {"gone": 1, "server_error": 1})
    assert first.rate == pytest.approx(first.bytes / first.seconds)
    assert (second.urls, second.blocked, second.rate) == (1, 1, None)
    answer = json.loads(dimo("sources", "--lake", lake.uri, "--links", "--json").stdout)
    assert [(row["host"], row["fetched"], row["bytes"]) for row in answer] == [
        (server.url[7:], 2, 2 * len(VIDEO)),
        (other[7:], 0, 0),
    ]
    assert "server_error" in dimo("sources", "--lake", lake.uri, "--links").stdout


def test_only_the_last_attempt_at_a_url_counts(server, lake, tmp_path):
    path = listed(tmp_path, f"{server.url}/status/500")
    ingest(lake, path)
    retry(lake, Choice())
    ingest(lake, path)
    [host] = links(lake)
    assert (host.urls, host.attempts, host.transient) == (1, 2, 1)


def test_a_page_of_a_platform_says_what_to_install(server, lake, tmp_path, monkeypatch):
    monkeypatch.setattr(platforms, "is_installed", lambda: False)
    path = listed(tmp_path, "https://www.youtube.com/watch?v=abc", "https://player.vimeo.com/external/1.mp4?s=1")
    absent = discover("internet", path, FAST)
    outcome = SourcesStage(lake.uri, FAST).run([work for work in absent if "watch" in work.name])
    [reject] = outcome.rejects
    assert reject.reason == "needs_ytdlp" and "pip install 'opendimo[platforms]'" in reject.message
    monkeypatch.setattr(platforms, "is_installed", lambda: True)
    present = discover("internet", path, FAST)
    # with yt-dlp installed, the page is new work
    assert [a.key == b.key for a, b in zip(absent, present, strict=True)] == [True, False]


@pytest.mark.parametrize(
    ("error_text", "kind", "reason"),
    [
        ("ERROR: [youtube] abc: Video unavailable. This video has been removed", "PermanentError", "gone"),
        ("ERROR: [youtube] abc: Sign in to confirm you're not a bot", "PermanentError", "blocked"),
        ("ERROR: unable to download video data: HTTP Error 403: Forbidden", "PermanentError", "blocked"),
        ("ERROR: [youtube] abc: HTTP Error 429: Too Many Requests", "TransientError", "rate_limited"),
        ("ERROR: Unable to download webpage: <urlopen error timed out>", "TransientError", "network"),
        ("ERROR: Unsupported URL: http://x/?token=SECRET", "DataError", "not_a_video"),
        ("playlist", "DataError", "playlist"),
        ("KeyError: 'SECRET'", "PermanentError", "unknown"),
    ],
)
def test_what_yt_dlp_says_has_a_class_and_is_not_repeated(error_text, kind, reason):
    failure = platforms._failure("page", error_text)
    assert (type(failure).__name__, failure.reason) == (kind, reason) and "SECRET" not in str(failure)


READER = '''
import re, urllib.request


class YoutubeDL:
    """Minimal stand-in for yt-dlp: reads the page, finds its video file, and writes the cookies back."""

    def __init__(self, options):
        self.cookiejar = self
        self.file = options["cookiefile"]
        self.cookies = self._opened("r").read() if self.file else ""

    def _opened(self, mode):
        return open(self.file, mode) if isinstance(self.file, str) else self.file

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.file:
            self._opened("w").write("# This file is generated by yt-dlp.")

    def get_cookie_header(self, url):
        return "; ".join(["seen=1", *(line.partition("session")[2].strip() for line in self.cookies.splitlines()[1:])])

    def extract_info(self, url, download):
        with urllib.request.urlopen(url) as page:
            found = re.search('src="([^"]+)"', page.read().decode())
        return {"url": page.url.partition("/page")[0] + found[1], "http_headers": {"Referer": "page", "Range": "no"}}
'''


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """Install the stand-in as the module yt_dlp for the subprocess."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "yt_dlp.py").write_text(READER)
    monkeypatch.syspath_prepend(tmp_path / "site")


@pytest.mark.usefixtures("reader")
def test_the_file_behind_a_page_is_fetched_by_this_house(server, lake, tmp_path):
    ingest(lake, listed(tmp_path, f"{server.url}/page?v=1"), config=PAGES)
    [row] = lake.read("fetches")
    assert (row["url"], row["status"], row["bytes"]) == (f"{server.url}/page?v=1", "fetched", len(VIDEO))
    [headers] = server.asked("/video/dance.mp4")
    assert (headers["Referer"], headers["Cookie"], headers.get("Range")) == ("page", "seen=1", None)


@pytest.mark.usefixtures("reader")
def test_the_cookies_of_the_user_are_read_and_never_written(server, lake, tmp_path):
    cookies = tmp_path / "cookies.txt"
    cookies.write_text(text := "# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t0\tsession\tSECRET\n")
    config = SourcesConfig(**{**vars(PAGES), "cookies": str(cookies)})
    ingest(lake, listed(tmp_path, f"{server.url}/page?v=1"), config=config)
    [headers] = server.asked("/video/dance.mp4")
    assert "SECRET" in headers["Cookie"] and cookies.read_text() == text


@pytest.mark.usefixtures("reader")
def test_the_reader_of_pages_reaches_no_private_address(server, lake, tmp_path):
    config = SourcesConfig(**{**vars(PAGES), "allow_private": False})
    ingest(lake, listed(tmp_path, f"{server.url}/page?v=1"), config=config)
    [row] = lake.read("fetches")
    assert (row["status"], row["reason"], server.requests) == ("refused", "private_address", [])
