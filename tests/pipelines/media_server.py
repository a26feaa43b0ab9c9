"""Local HTTP server that serves a video with many kinds of server behaviour and records all requests."""

import gzip
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

from opendimo.storage_schemas.media.video import encode

VIDEO = encode(iter(np.random.default_rng(7).integers(0, 255, (12, 64, 96, 3), np.uint8)), Fraction(25))
ETAG = '"one"'
MODIFIED = "Wed, 21 Oct 2015 07:28:00 GMT"


class MediaServer(ThreadingHTTPServer):
    """The server. `requests`: (path, headers) of every request; `release`: event that lets bodies of /held continue;
    `files`: contents of /file/NAME; `sent`: (path, bytes) of every response to these."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("0.0.0.0", 0), Handler)
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.files: dict[str, bytes] = {}
        self.sent: list[tuple[str, int]] = []
        self.heads: list[str] = []
        self.tag, self.tagged_status = ETAG, 200
        self.release = threading.Event()
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        """Return the base URL."""
        return f"http://127.0.0.1:{self.server_port}"

    def asked(self, path: str) -> list[dict[str, str]]:
        """Return the headers of all requests of a path."""
        return [headers for requested, headers in self.requests if requested == path]

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore errors: clients are expected to close connections."""


class Handler(BaseHTTPRequestHandler):
    """Request handler: the first part of the path selects the method that serves it."""

    server: MediaServer
    protocol_version = "HTTP/1.0"

    def do_GET(self) -> None:
        with self.server.lock:
            self.server.requests.append((self.path, dict(self.headers)))
            self.server.at_once += 1
            self.server.most_at_once = max(self.server.most_at_once, self.server.at_once)
        try:
            what, _, rest = self.path.partition("?")[0].lstrip("/").partition("/")
            getattr(self, what)(rest)
        finally:
            with self.server.lock:
                self.server.at_once -= 1

    def do_HEAD(self) -> None:
        """Answer HEAD below /tagged only, which also supports GET; 404 below /headless."""
        with self.server.lock:
            self.server.heads.append(self.path)
        if self.path.startswith("/headless/"):
            return self.answer(404, b"")
        if not self.path.startswith("/tagged/"):
            return self.answer(405, b"")
        return self.answer(self.server.tagged_status, b"", length=len(VIDEO), ETag=self.server.tag)

    def tagged(self, _: str) -> None:
        """Serve with the server's `tag` as ETag and its `tagged_status` as status."""
        if self.server.tagged_status != 200:
            return self.answer(self.server.tagged_status, b"")
        return self.ranged(ETag=self.server.tag)

    def video(self, _: str) -> None:
        """Well-behaved server: ETag and ranges."""
        self.ranged(ETag=ETAG)

    def dated(self, _: str) -> None:
        """Ranges, and Last-Modified instead of an ETag."""
        self.ranged(**{"Last-Modified": MODIFIED})

    def chunked(self, _: str) -> None:
        """Ranges and an ETag, but no Content-Length."""
        self.ranged(length=False, ETag=ETAG)

    def headless(self, _: str) -> None:
        """Serve GET only, and only with the cookie."""
        if "session=SECRET" in self.headers.get("Cookie", ""):
            return self.ranged(ETag=ETAG)
        return self.answer(403, b"")

    def torn(self, _: str) -> None:
        """Close the connection between chunks."""
        self.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n" + VIDEO[:1000] + b"\r\n")

    def longer(self, _: str) -> None:
        """Send more bytes than Content-Length."""
        self.answer(200, VIDEO, length=len(VIDEO) // 2)

    def unsaid(self, _: str) -> None:
        """Send no Content-Length, and close the connection in the middle."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(VIDEO[: len(VIDEO) // 2])

    def plain(self, _: str) -> None:
        """Neither ranges nor ETag."""
        self.answer(200, VIDEO)

    def breaks(self, count: str) -> None:
        """Close the connection after each `count` bytes."""
        self.ranged(most=int(count.partition("/")[0]), ETag=ETAG)

    def untagged(self, count: str) -> None:
        """Close the connection, and send no validator."""
        self.answer(200, VIDEO[: int(count)], length=len(VIDEO))

    def ignores(self, _: str) -> None:
        """Send an ETag, but always the full body."""
        first = len(self.server.asked(self.path)) == 1
        self.answer(200, VIDEO[: 1000 if first else None], length=len(VIDEO), ETag=ETAG)

    def changes(self, _: str) -> None:
        """Serve a different file from the second request on."""
        if len(self.server.asked(self.path)) == 1:
            return self.answer(200, b"\0" * 1000, length=5000, ETag='"zero"')
        return self.ranged(ETag=ETAG)

    def liar(self, _: str) -> None:
        """Answer a range request with another range of the file."""
        if "Range" in self.headers:
            return self.answer(206, VIDEO[:50], ETag=ETAG, **{"Content-Range": f"bytes 0-49/{len(VIDEO)}"})
        first = len(self.server.asked(self.path)) == 1
        return self.answer(200, VIDEO[: 1000 if first else None], length=len(VIDEO), ETag=ETAG)

    def held(self, _: str) -> None:
        """Send the first half, and the rest once the test sets `release`."""
        self.ranged(hold=True, ETag=ETAG)

    def file(self, name: str) -> None:
        """Serve one of `files` with ranges, slowly (about two seconds)."""
        if (body := self.server.files.get(name)) is None:
            return self.answer(404, b"sorry")
        tag = f'"{name}"'
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(found[1]) if found and self.headers.get("If-Range") == tag else 0
        span = {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"} if start else {}
        self.answer(206 if start else 200, b"", length=len(body) - start, ETag=tag, **span)
        piece, sent = len(body) // 40 + 1, 0
        try:
            for at in range(start, len(body), piece):
                time.sleep(0.05)
                self.wfile.write(body[at : at + piece])
                sent += len(body[at : at + piece])
        finally:
            with self.server.lock:
                self.server.sent.append((self.path, sent))
        return None

    def busy(self, _: str) -> None:
        """Serve slowly."""
        time.sleep(0.15)
        self.ranged(ETag=ETAG)

    def status(self, number: str) -> None:
        """Send the status given by the path, without a body."""
        self.answer(int(number), b"sorry")

    def later(self, wait: str) -> None:
        """Send 429 with the `Retry-After` given by the path."""
        self.answer(429, b"", **{"Retry-After": wait.replace("_", " ").replace("%2C", ",")})

    def redirect(self, count: str) -> None:
        """Redirect as many times as the path says."""
        self.answer(302, b"", Location="/video" if count == "1" else f"/redirect/{int(count) - 1}")

    def to(self, _: str) -> None:
        """Redirect to the URL after the question mark."""
        self.answer(302, b"", Location=self.path.partition("?")[2])

    def html(self, _: str) -> None:
        """Serve a web page."""
        self.answer(200, b"<html>", **{"Content-Type": "text/html; charset=utf-8"})

    def page(self, _: str) -> None:
        """Serve a web page that contains a video."""
        body = b'<html><head><title>A dance</title></head><body><video src="/video/dance.mp4"></video></body></html>'
        self.answer(200, body, **{"Content-Type": "text/html; charset=utf-8"})

    def lies(self, _: str) -> None:
        """Serve a web page with the content type of a video."""
        self.answer(200, b"<!DOCTYPE html><html>" + b" " * 5000, **{"Content-Type": "video/mp4"})

    def noise(self, _: str) -> None:
        """Serve a file that is not a video."""
        self.answer(200, b"noise" * 100)

    def mended(self, _: str) -> None:
        """Serve a file that is not a video at the first request only."""
        return self.noise("") if len(self.server.asked(self.path)) == 1 else self.ranged(ETag=ETAG)

    def zip(self, _: str) -> None:
        """Serve an archive with the content type of a video."""
        self.answer(200, b"PK\x03\x04" + b"\0" * 5000, **{"Content-Type": "video/mp4"})

    def gzip(self, _: str) -> None:
        """Serve a small compressed body that expands to a large one."""
        self.answer(200, gzip.compress(b"\0" * 10_000_000), **{"Content-Encoding": "gzip"})

    def empty(self, _: str) -> None:
        """Nothing."""
        self.answer(200, b"")

    def endless(self, _: str) -> None:
        """Send an endless body."""
        self.drip(b"x" * 1000, 0.01)

    def dripping(self, _: str) -> None:
        """Send a byte now and then."""
        self.drip(b"x", 0.05)

    def silent(self, _: str) -> None:
        """Never answer."""
        time.sleep(1)

    def headers_drip(self, _: str) -> None:
        """Send endless headers."""
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for number in range(200):
            self.wfile.write(f"X-{number}: 0\r\n".encode())
            time.sleep(0.05)

    def drip(self, piece: bytes, seconds: float) -> None:
        self.send_response(200)
        self.end_headers()
        for _ in range(500):
            self.wfile.write(piece)
            time.sleep(seconds)

    def ranged(self, most: int | None = None, length: bool = True, hold: bool = False, **headers: str) -> None:
        """Send the video, or only the requested rest if `If-Range` matches this version."""
        start = 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and self.headers.get("If-Range") in headers.values():
            start = int(asked[1])
        if start >= len(VIDEO):
            return self.answer(416, b"", **headers, **{"Content-Range": f"bytes */{len(VIDEO)}"})
        span = {"Content-Range": f"bytes {start}-{len(VIDEO) - 1}/{len(VIDEO)}"} if start else {}
        self.send_response(206 if start else 200)
        if length:
            self.send_header("Content-Length", str(len(VIDEO) - start))
        for name, value in {**headers, **span}.items():
            self.send_header(name, value)
        self.end_headers()
        if hold and not start:
            self.wfile.write(VIDEO[: len(VIDEO) // 2])
            self.wfile.flush()
            self.server.release.wait(20)
            start = len(VIDEO) // 2
        self.wfile.write(VIDEO[start : start + most if most else None])
        return None

    def answer(self, status: int, body: bytes, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def media_server() -> Iterator[MediaServer]:
    """Run the server."""
    server = MediaServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.release.set()
        server.shutdown()
        server.server_close()
