"""Downloads from a local HTTP server: received files, rejected responses and their reasons."""

import base64
import logging
import time
from email.utils import formatdate
from pathlib import Path

import pytest

from opendimo.pipelines.engine.stage import DataError, Failure, PermanentError, TransientError
from opendimo.pipelines.sources import SourcesConfig, SourcesStage, discover
from opendimo.pipelines.sources.downloads import guard
from opendimo.pipelines.sources.downloads.access import Access, access
from opendimo.pipelines.sources.downloads.engine import download
from opendimo.pipelines.sources.downloads.http import follow
from opendimo.storage_schemas.ids import sha256_bytes, sha256_file
from tests.pipelines.media_server import ETAG, MODIFIED, VIDEO, MediaServer

FAST = SourcesConfig(allow_private=True, host_rate=0, timeout_s=5, max_pause_s=0)

PRIVATE = [
    *("127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1"),
    *("::1", "fe80::1%eth0", "fd00::1", "::ffff:127.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1"),
    *("168.63.129.16", "192.88.99.1", "3fff::1", "::ffff:168.63.129.16"),
    *("::127.0.0.1", "64:ff9b:1::7f00:1", "::ffff:0:7f00:1", "fec0::1"),
]


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def config(**options):
    return SourcesConfig(**{**vars(FAST), **options})


def get(server: MediaServer, path: str, cache: Path, **options):
    """Download `path`; return the file and the row of the attempt."""
    rows: list[dict] = []
    found = download(server.url + path, cache, config(**options), rows)
    return found, rows[-1]


def fails(server: MediaServer, path: str, cache: Path, **options):
    """Download `path`, which must fail; return the failure and the row of the attempt."""
    rows: list[dict] = []
    with pytest.raises(Failure) as caught:
        download(server.url + path, cache, config(**options), rows)
    [row] = rows
    assert row["reason"] == caught.value.reason and row["sha256"] is None
    return caught.value, row


def files(cache):
    return [path.name for path in cache.iterdir() if path.is_file()]


def test_a_video_lands_in_the_cache_under_its_hash(server, cache):
    path, row = get(server, "/video/a.mp4?token=secret", cache)
    assert path == cache / sha256_bytes(VIDEO) and path.read_bytes() == VIDEO
    assert files(cache) == [path.name]
    assert row["url"] == f"{server.url}/video/a.mp4?token=hidden" and row["host"] == server.url[7:]
    told = {name: row[name] for name in ("status", "reason", "http_status", "bytes", "resumed_from", "etag", "sha256")}
    expected = ["fetched", None, 200, len(VIDEO), 0, ETAG, path.name]
    assert list(told.values()) == expected


def test_a_known_url_is_not_asked_again_and_tells_of_the_attempt_that_fetched_it(server, cache):
    first, second = get(server, "/video/a", cache), get(server, "/video/a", cache)
    assert first == second and len(server.requests) == 1


def test_redirects_are_followed_and_bounded(server, cache):
    assert get(server, "/redirect/5", cache)[0].read_bytes() == VIDEO
    error, row = fails(server, "/redirect/6", cache)
    assert (type(error), row["status"], row["reason"]) == (PermanentError, "refused", "redirects")


@pytest.mark.parametrize(
    ("path", "kind", "status", "reason"),
    [
        ("/status/401", PermanentError, "blocked", "blocked"),
        ("/status/403", PermanentError, "blocked", "blocked"),
        ("/status/451", PermanentError, "blocked", "blocked"),
        ("/status/404", PermanentError, "gone", "gone"),
        ("/status/410", PermanentError, "gone", "gone"),
        ("/status/418", PermanentError, "refused", "refused"),
        ("/status/429", TransientError, "transient", "rate_limited"),
        ("/status/500", TransientError, "transient", "server_error"),
        ("/status/503", TransientError, "transient", "server_error"),
        ("/html", DataError, "refused", "not_a_video"),
        ("/lies", DataError, "refused", "not_a_video"),
        ("/empty", DataError, "refused", "empty"),
        ("/zip", DataError, "refused", "archive"),
        ("/gzip", DataError, "refused", "packed"),
        ("/untagged/1000", TransientError, "transient", "wrong_length"),
        ("/to?ftp://example.com/x.mp4", PermanentError, "refused", "scheme"),
    ],
)
def test_every_answer_has_its_class_and_reason(server, cache, path, kind, status, reason):
    error, row = fails(server, path, cache)
    assert (type(error), row["status"], row["reason"]) == (kind, status, reason)
    assert files(cache) == [] and len(server.requests) == 1


@pytest.mark.parametrize("path", ["/video", "/endless", "/chunked"])  # with and without a Content-Length
def test_a_body_that_is_too_long_is_refused(server, cache, path):
    error, row = fails(server, path, cache, max_bytes=500)
    assert isinstance(error, DataError) and row["reason"] == "too_large"
    assert not list((cache / "parts").glob("*.part"))


@pytest.mark.parametrize(
    ("path", "options", "reason"),
    [
        ("/silent", {"timeout_s": 0.1}, "timeout"),
        ("/endless", {"download_timeout_s": 0.2}, "timeout"),
        ("/headers_drip", {"download_timeout_s": 0.3}, "timeout"),
        ("/dripping", {"timeout_s": 0.2}, "slow"),
    ],
)
def test_what_takes_for_ever_ends(server, cache, path, options, reason):
    began = time.monotonic()
    error, _ = fails(server, path, cache, **options)
    assert isinstance(error, TransientError) and error.reason == reason
    assert time.monotonic() - began < 1.5


def test_retry_after_is_when_the_next_attempt_may_be(server, cache):
    error, row = fails(server, "/later/600", cache)
    assert error.not_before == row["next_attempt_at"]
    assert error.not_before / 1e9 == pytest.approx(time.time() + 600, abs=5)


def test_retry_after_may_be_a_date(server, cache):
    date = formatdate(time.time() + 300, usegmt=True)
    error, _ = fails(server, f"/later/{date.replace(' ', '_').replace(',', '%2C')}", cache)
    assert error.not_before / 1e9 == pytest.approx(time.time() + 300, abs=5)


def test_no_server_decides_about_more_than_a_day(server, cache):
    error, _ = fails(server, "/later/99999999999", cache)
    assert error.not_before / 1e9 == pytest.approx(time.time() + 24 * 3600, abs=5)


def test_a_host_that_asked_for_a_pause_is_left_alone(server, cache):
    fails(server, "/later/600", cache)
    rows: list[dict] = []
    with pytest.raises(TransientError) as caught:
        download(f"{server.url}/video", cache, config(max_pause_s=60), rows)
    assert (caught.value.reason, caught.value.untried) == ("paused", True)
    assert len(server.requests) == 1 and not rows  # a pause is not an attempt


def test_a_short_pause_is_waited_for(server, cache):
    fails(server, "/later/1", cache)
    began = time.monotonic()
    get(server, "/video", cache, max_pause_s=5)
    assert 0.5 < time.monotonic() - began < 3


def test_a_redirect_to_a_private_address_is_refused_before_a_request(server, cache, monkeypatch):
    check = guard.check_address
    monkeypatch.setattr(guard, "check_address", lambda host, ip: None if ip == "127.0.0.1" else check(host, ip))
    for private in ("127.0.0.2", "[::1]", "169.254.169.254", "localhost.localdomain"):
        monkeypatch.setattr(guard, "resolve", lambda host, port: ["127.0.0.9" if "local" in host else host])
        error, row = fails(server, f"/to?http://{private}:{server.server_port}/video", cache, allow_private=False)
        assert isinstance(error, PermanentError) and row["reason"] == "private_address"
    assert {path.partition("?")[0] for path, _ in server.requests} == {"/to"}


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_in_all_their_spellings(address):
    with pytest.raises(PermanentError, match="private address"):
        guard.check_address("host", address)


def test_public_addresses_are_public():
    for address in ("93.184.216.34", "2606:4700::1111", "64:ff9b::5db8:d822"):
        guard.check_address("host", address)


def test_a_name_with_one_private_address_is_not_asked(server, cache, monkeypatch):
    monkeypatch.setattr(guard, "resolve", lambda host, port: ["93.184.216.34", "127.0.0.1"])
    error, _ = fails(server, "/video", cache, allow_private=False)
    assert error.reason == "private_address" and not server.requests


def test_a_name_that_turns_private_after_the_check_is_not_connected_to(server, cache, monkeypatch):
    answers = [["127.0.0.1"], ["127.0.0.2"]]  # the first stands for a public one
    check = guard.check_address
    monkeypatch.setattr(guard, "check_address", lambda host, ip: None if ip == "127.0.0.1" else check(host, ip))
    monkeypatch.setattr(guard, "resolve", lambda host, port: answers.pop(0))
    assert get(server, "/video", cache, allow_private=False)[0].read_bytes() == VIDEO
    assert answers == [["127.0.0.2"]]  # the name was not resolved again between check and connection


def test_nobody_listening_is_transient(server, cache):
    with pytest.raises(TransientError) as caught:
        download("http://127.0.0.1:9/x.mp4", cache, FAST, [])
    assert caught.value.reason == "network"


def test_a_file_that_breaks_off_goes_on_by_range(server, cache):
    path, row = get(server, f"/breaks/{len(VIDEO) // 3 + 1}", cache)
    assert path.read_bytes() == VIDEO and row["bytes"] == len(VIDEO)
    third = len(VIDEO) // 3 + 1
    ranges = [headers.get("Range") for _, headers in server.requests]
    assert ranges == [None, f"bytes={third}-", f"bytes={2 * third}-"]
    assert {headers.get("If-Range") for _, headers in server.requests[1:]} == {ETAG}


def test_an_attempt_that_gives_up_leaves_what_it_has_to_the_next(server, cache):
    piece = len(VIDEO) // 7 + 1
    _, first = fails(server, f"/breaks/{piece}", cache)
    path, second = get(server, f"/breaks/{piece}", cache)
    assert path.read_bytes() == VIDEO and first["bytes"] + second["bytes"] == len(VIDEO)
    assert first["reason"] == "wrong_length" and second["resumed_from"] > 0


@pytest.mark.parametrize(("path", "validator"), [("/dated/x", MODIFIED), ("/chunked/x", ETAG), ("/video/x", ETAG)])
def test_a_part_is_resumed_with_whatever_tells_versions_apart(server, cache, path, validator):
    begun(server, path, cache)
    _, row = get(server, path, cache)
    [headers] = server.asked(path)
    assert (headers["Range"], headers["If-Range"]) == (f"bytes={row['resumed_from']}-", validator)
    assert row["bytes"] == len(VIDEO) - row["resumed_from"] and row["resumed_from"] == 1000


@pytest.mark.parametrize("path", ["/ignores", "/changes", "/liar"])
def test_a_server_that_ignores_ranges_or_changed_the_file_is_asked_for_all_of_it(server, cache, path):
    found, row = get(server, path, cache)
    assert found.read_bytes() == VIDEO
    assert "Range" in server.requests[1][1] and row["resumed_from"] == 0


def test_a_whole_part_without_a_record_is_not_asked_for_again(server, cache):
    begun(server, "/video/x", cache, len(VIDEO))
    path, row = get(server, "/video/x", cache)
    assert path.read_bytes() == VIDEO and row["status"] == "fetched" and not server.requests


def test_a_whole_part_of_unknown_length_costs_a_question_only(server, cache):
    begun(server, "/chunked/x", cache, len(VIDEO))
    path, row = get(server, "/chunked/x", cache)
    assert path.read_bytes() == VIDEO
    assert (row["http_status"], row["bytes"], row["resumed_from"]) == (416, 0, len(VIDEO))


def begun(server, path, cache, size=1000):
    """Create the leftovers of an attempt that was killed after `size` bytes."""
    from opendimo.pipelines.sources.downloads.parts import Place, Version

    part = Place(cache, server.url + path).open()
    (cache / "parts").mkdir(parents=True)
    length = None if "chunked" in path else len(VIDEO)
    part.begin(Version(length, None if "dated" in path else ETAG, MODIFIED if "dated" in path else None))
    part.append(VIDEO[:size])
    part.abandon()


def test_a_body_in_chunks_that_breaks_off_is_not_whole(server, cache):
    error, row = fails(server, "/torn", cache)
    assert (type(error), row["reason"], row["bytes"]) == (TransientError, "wrong_length", 1000)


@pytest.mark.parametrize("path", ["/longer", "/unsaid"])
def test_of_a_body_that_ends_elsewhere_than_the_file_nothing_is_stored(server, tmp_path, path):
    """Body longer than its stated length, or truncated without one: only reading the video reveals it."""
    (tmp_path / "list.csv").write_text(f"url\n{server.url}{path}\n")
    stage = SourcesStage(str(tmp_path / "lake"), FAST)
    outcome = stage.run(discover("internet", tmp_path / "list.csv", FAST))
    assert [(reject.error_class, reject.reason) for reject in outcome.rejects] == [("data", "not_a_video")]
    assert files(tmp_path / "lake" / "downloads") == []


def test_cookies_and_headers_go_to_the_hosts_they_are_meant_for(server, cache, tmp_path):
    (tmp_path / "cookies.txt").write_text(
        "# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t0\tsession\tSECRET1\n"
        "other.example\tFALSE\t/\tFALSE\t0\tsession\tSECRET2\n"
    )
    (tmp_path / "access.toml").write_text(
        '[headers."127.0.0.1"]\nAuthorization = "Bearer SECRET3"\n[headers."*.other.example"]\nX-Key = "SECRET4"\n'
    )
    options = {"cookies": str(tmp_path / "cookies.txt"), "access": str(tmp_path / "access.toml")}
    other = f"http://127.0.0.2:{server.server_port}/video"
    get(server, f"/to?{other}", cache, **options)
    first, second = (headers for _, headers in server.requests)
    assert (first["Cookie"], first["Authorization"]) == ("session=SECRET1", "Bearer SECRET3")
    assert not {"Cookie", "Authorization", "X-Key"} & set(second)


@pytest.mark.parametrize(
    ("option", "content"),
    [
        ("cookies", "127.0.0.1 SECRET"),
        ("access", "SECRET"),
        ("access", '[headers.h]\nA = "a\\nSECRET"'),
        ("access", "proxy = 5"),
        ("access", 'proxy = "http://ann:SECRET@proxy.example:port"'),
        ("access", 'proxy = "http://ann:SEC/SECRET@proxy.example:3128"'),
        ("access", 'proxy = "SECRET"'),
        ("access", 'prxy = "SECRET"'),
    ],
)
def test_files_with_secrets_that_cannot_be_used_are_not_quoted(tmp_path, option, content):
    path = tmp_path / "file"
    path.write_text(content)
    (tmp_path / "a.mp4").write_bytes(VIDEO)
    with pytest.raises(DataError, match=r"file: (proxy: )?not ") as caught:
        discover("internet", tmp_path / "a.mp4", config(**{option: str(path)}))
    assert "SECRET" not in str(caught.value)


def test_a_socks_proxy_is_refused_by_name(tmp_path):
    (tmp_path / "access.toml").write_text('proxy = "socks5://ann:SECRET@proxy.example:1080"')
    with pytest.raises(DataError, match="SOCKS proxies are not supported") as caught:
        access(config(access=str(tmp_path / "access.toml")))
    assert "SECRET" not in str(caught.value)


def test_headers_of_a_page_do_not_fall_back_to_plain_text():
    sent = []

    def ask(url, headers):
        sent.append((url.scheme, headers.get("Cookie")))
        return "whole" if url.scheme == "http" else "http://media.example/a.mp4"

    follow("https://media.example/a.mp4", FAST, Access(), time.monotonic() + 9, ask, {"Cookie": "session=SECRET"})
    assert sent == [("https", "session=SECRET"), ("http", None)]


def test_a_proxy_is_used_and_told_its_password(server, cache, tmp_path):
    place = server.url.removeprefix("http://")
    (tmp_path / "access.toml").write_text(f'proxy = "http://ann:SECRET@{place}"\n')
    rows: list[dict] = []
    with pytest.raises(Failure):  # requests to a proxy have absolute URLs, which this server does not serve
        download("http://video.example/x.mp4", cache, config(access=str(tmp_path / "access.toml")), rows)
    [(path, headers)] = server.requests
    assert path == "http://video.example/x.mp4"
    assert headers["Proxy-Authorization"] == "Basic " + base64.b64encode(b"ann:SECRET").decode()
    assert "SECRET" not in str(rows)


def test_user_and_password_of_a_url_are_sent_and_not_shown(server, cache):
    rows: list[dict] = []
    download(server.url.replace("//", "//ann:SECRET@") + "/video", cache, FAST, rows)
    assert server.requests[0][1]["Authorization"] == "Basic " + base64.b64encode(b"ann:SECRET").decode()
    assert rows[0]["url"] == f"{server.url}/video"


def test_a_damaged_copy_is_found_and_fetched_again(server, tmp_path):
    (tmp_path / "list.csv").write_text(f"url\n{server.url}/video/a.mp4\n")
    stage = SourcesStage(str(tmp_path / "lake"), FAST)
    works = discover("internet", tmp_path / "list.csv", FAST)
    [row] = stage.run(works).rows["sources"]
    Path(row["local_path"]).write_bytes(VIDEO + b"\0")
    [reject] = stage.run(works).rejects
    assert (reject.error_class, reject.reason) == ("transient", "damaged")
    assert sha256_file(stage.run(works).rows["sources"][0]["local_path"]) == sha256_bytes(VIDEO)


def test_a_list_of_urls_through_the_stage(server, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    paths = ("video/..%2f..%2fetc%2fa.mp4", "status/404", "status/503", "noise/x.mp4", "video/b.mp4?token=SECRET")
    urls = [f"{server.url}/{path}" for path in paths] + [f"{server.url.replace('//', '//ann:SECRET@')}/video/c"]
    bad = ["http://ann:SECRET@[::1/x", "http://h:SECRET/", "ftp://ann:SECRET@h/x", "http://ann:SECRET@h/\x07"]
    (tmp_path / "list.csv").write_text("url\n" + "\n".join([*urls, *bad]))
    works = discover("internet", tmp_path / "list.csv", FAST)
    outcome = SourcesStage(str(tmp_path / "lake"), FAST).run(works)
    outcome.check(works)
    assert sorted((r.error_class, r.reason) for r in outcome.rejects) == [
        *[("data", "bad_url")] * 4,
        ("data", "not_a_video"),
        ("permanent", "gone"),
        ("transient", "server_error"),
    ]
    assert {row["content_sha256"] for row in outcome.rows["sources"]} == {sha256_bytes(VIDEO)}
    assert all(row["local_path"].startswith(str(tmp_path / "lake" / "downloads")) for row in outcome.rows["sources"])
    statuses = sorted(row["status"] for row in outcome.rows["fetches"])
    assert statuses == ["fetched", "fetched", "fetched", "fetched", "gone", "transient"]
    shown = str([[r.name, r.message] for r in outcome.rejects]) + str(dict(outcome.rows)) + caplog.text
    assert "SECRET" not in shown + str([work.name for work in works])
