"""Downloads from a real HTTP server on this machine."""

import logging
import threading
import time
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from pipelines.sources import SourcesConfig, SourcesStage, discover
from pipelines.sources import download as downloads
from pipelines.sources.download import download
from pipelines.stage import DataError, PermanentError, TransientError
from storage_schemas.ids import sha256_bytes
from storage_schemas.video import encode

VIDEO = encode(iter(np.full((4, 32, 48, 3), 90, np.uint8)), Fraction(25))


class Handler(BaseHTTPRequestHandler):
    """/video, /status/N, /redirect/N (N hops), /html, /noise, /empty, /short, /endless, /slow, /away."""

    def do_GET(self):
        self.server.asked.append(self.path)
        what, _, rest = self.path.partition("?")[0].lstrip("/").partition("/")
        match what:
            case "video":
                self.answer(200, VIDEO)
            case "status":
                self.answer(int(rest), b"sorry")
            case "redirect":
                self.answer(302, b"", Location="/video" if rest == "1" else f"/redirect/{int(rest) - 1}")
            case "away":
                self.answer(302, b"", Location="ftp://example.com/x.mp4")
            case "html":
                self.answer(200, b"<html>", **{"Content-Type": "text/html; charset=utf-8"})
            case "noise":
                self.answer(200, b"noise" * 100)
            case "empty":
                self.answer(200, b"")
            case "short":
                self.answer(200, VIDEO[:100], length=len(VIDEO))
            case "endless":
                self.send_response(200)
                self.end_headers()
                for _ in range(200):
                    self.wfile.write(b"x" * 1000)
                    time.sleep(0.01)
            case "slow":
                time.sleep(1)

    def answer(self, status, body, length=None, **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *args: None  # clients that hang up are the point
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def url(server, monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return f"http://127.0.0.1:{server.server_port}"


ALLOWED = SourcesConfig(allow_private=True)


def leftovers(cache):
    return [p.name for p in cache.iterdir() if p.name != "urls"]


def test_video_lands_in_the_cache_under_its_hash(url, tmp_path):
    path = download(f"{url}/video/a.mp4", tmp_path, ALLOWED)
    assert path == tmp_path / sha256_bytes(VIDEO) and path.read_bytes() == VIDEO
    assert leftovers(tmp_path) == [path.name]


def test_known_url_is_not_asked_again(server, url, tmp_path):
    download(f"{url}/video/again.mp4", tmp_path, ALLOWED)
    download(f"{url}/video/again.mp4", tmp_path, ALLOWED)
    assert server.asked.count("/video/again.mp4") == 1


def test_redirects_are_followed_and_bounded(url, tmp_path):
    assert download(f"{url}/redirect/5", tmp_path, ALLOWED).read_bytes() == VIDEO
    with pytest.raises(PermanentError, match="more than 5 redirects"):
        download(f"{url}/redirect/6", tmp_path, ALLOWED)


def test_redirect_to_another_scheme_is_refused(url, tmp_path):
    with pytest.raises(PermanentError, match="only http and https"):
        download(f"{url}/away", tmp_path, ALLOWED)


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_refusals_are_permanent(url, tmp_path, status):
    with pytest.raises(PermanentError, match=str(status)):
        download(f"{url}/status/{status}", tmp_path, ALLOWED)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_server_trouble_is_transient(url, tmp_path, status):
    with pytest.raises(TransientError, match=str(status)):
        download(f"{url}/status/{status}", tmp_path, ALLOWED)


@pytest.mark.parametrize(("path", "message"), [("html", "sent text/html, not a video"), ("empty", "empty file")])
def test_wrong_content_is_a_data_error(url, tmp_path, path, message):
    with pytest.raises(DataError, match=message):
        download(f"{url}/{path}", tmp_path, ALLOWED)
    assert leftovers(tmp_path) == []


def test_transfer_that_breaks_off_is_transient_and_leaves_nothing(url, tmp_path):
    with pytest.raises(TransientError):
        download(f"{url}/short", tmp_path, ALLOWED)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("path", ["video", "endless"])  # with and without a Content-Length
def test_size_limit(url, tmp_path, path):
    with pytest.raises(DataError, match="more than 500 bytes"):
        download(f"{url}/{path}", tmp_path, SourcesConfig(allow_private=True, max_bytes=500))
    assert leftovers(tmp_path) == []


def test_silent_server_and_endless_transfer_run_into_time_limits(url, tmp_path):
    with pytest.raises(TransientError):
        download(f"{url}/slow", tmp_path, SourcesConfig(allow_private=True, timeout=0.1))
    with pytest.raises(TransientError, match=r"not finished after 0\.1 s"):
        download(f"{url}/endless", tmp_path, SourcesConfig(allow_private=True, download_time=0.1))


def test_private_addresses_are_refused_without_a_request(server, url, tmp_path):
    before = len(server.asked)
    for address in (url, url.replace("127.0.0.1", "localhost"), url.replace("127.0.0.1", "[::ffff:127.0.0.1]")):
        with pytest.raises(PermanentError, match="a private address"):
            download(f"{address}/video", tmp_path, SourcesConfig())
    assert len(server.asked) == before


def test_name_that_resolves_to_a_private_address_only_later_gives_nothing(url, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "_check_target", lambda *_: None)  # as if it had resolved to a public one before
    with pytest.raises(PermanentError, match="a private address"):
        download(f"{url}/video", tmp_path, SourcesConfig())
    assert leftovers(tmp_path) == []


def test_nobody_listening_is_transient(tmp_path):
    with pytest.raises(TransientError):
        download("http://127.0.0.1:9/x.mp4", tmp_path, ALLOWED)


def test_list_of_urls_through_the_stage(url, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    paths = ("video/..%2f..%2fetc%2fa.mp4", "status/404", "status/503", "noise/x.mp4", "video/b.mp4?token=secret")
    (tmp_path / "list.csv").write_text("url\n" + "\n".join(f"{url}/{path}" for path in paths))
    config = SourcesConfig(allow_private=True)
    works = discover("internet", tmp_path / "list.csv", config)
    outcome = SourcesStage(str(tmp_path / "lake"), config).run(works)
    outcome.check(works)
    assert sorted(r.error_class for r in outcome.rejects) == ["data", "permanent", "transient"]
    assert {row["content_sha256"] for row in outcome.rows["sources"]} == {sha256_bytes(VIDEO)}
    assert all(row["local_path"].startswith(str(tmp_path / "lake" / "downloads")) for row in outcome.rows["sources"])
    assert not any("secret" in work.name for work in works) and "secret" not in caplog.text
    noise = next(r for r in outcome.rejects if r.error_class == "data")
    assert "not a readable video" in noise.message
