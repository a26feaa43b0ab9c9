"""A local server that implements the part of the Hugging Face hub's protocol needed to download or upload a model."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def hub(name: str, folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve a folder as the model `name`, and write uploads of it there; yield the address and the list of requests."""
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            requests.append(f"{self.command} {self.path}")
            path = self.path.partition("?")[0]
            if path.startswith(f"/api/models/{name}/"):
                files = [str(f.relative_to(folder)) for f in sorted(folder.rglob("*")) if f.is_file()]
                if "/tree/" in path:
                    entries = [
                        {"type": "file", "path": f, "size": (folder / f).stat().st_size, "oid": _etag(folder / f)}
                        for f in files
                    ]
                    return self.answer(json.dumps(entries).encode())
                siblings = [{"rfilename": f} for f in files]
                return self.answer(json.dumps({"id": name, "sha": COMMIT, "siblings": siblings}).encode())
            start = f"/{name}/resolve/"
            file = folder / path.removeprefix(start).partition("/")[2]
            if path.startswith(start) and file.is_file():
                return self.answer(file.read_bytes(), {"ETag": f'"{_etag(file)}"', "X-Repo-Commit": COMMIT})
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_POST(self) -> None:
            requests.append(f"{self.command} {self.path}")
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/api/repos/create":
                return self.answer(json.dumps({"url": f"http://{self.headers['Host']}/{name}"}).encode())
            if self.path == "/api/validate-yaml":
                return self.answer(json.dumps({"errors": [], "warnings": []}).encode())
            if self.path.startswith(f"/api/models/{name}/preupload/"):
                files = [
                    {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for f in json.loads(body)["files"]
                ]
                return self.answer(json.dumps({"files": files}).encode())
            assert self.path.startswith(f"/api/models/{name}/commit/main")
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    file = folder / line["value"]["path"]
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(base64.b64decode(line["value"]["content"]))
            answer = {"commitUrl": f"http://{self.headers['Host']}/{name}/commit/{COMMIT}", "commitOid": COMMIT}
            return self.answer(json.dumps(answer).encode())

        def answer(self, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(200)
            for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
        server.shutdown()
        server.server_close()


def _etag(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()
