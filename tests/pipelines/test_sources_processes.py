"""Downloads from several processes: nothing is fetched twice, rate limits are shared, killed downloads lose nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from opendimo.pipelines.sources import SourcesConfig
from opendimo.pipelines.sources.downloads import parts
from opendimo.pipelines.sources.downloads.engine import download
from opendimo.storage_schemas.ids import sha256_bytes
from tests.pipelines.media_server import ETAG, VIDEO, MediaServer

ROOT = Path(__file__).parents[2]
FAST = SourcesConfig(allow_private=True, host_rate=0, timeout_s=10)
PROGRAM = """
import json, sys, types
from pathlib import Path
package = types.ModuleType("opendimo.pipelines.sources")  # skip the imports of the adapters, which take seconds
package.__path__ = [sys.argv.pop(1)]
sys.modules["opendimo.pipelines.sources"] = package
from opendimo.pipelines.sources.config import SourcesConfig
from opendimo.pipelines.sources.downloads import parts
from opendimo.pipelines.sources.downloads.engine import download
cache, options, urls = Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:]
if options.pop("die", False):
    def die(*_): import os, signal; os.kill(os.getpid(), signal.SIGKILL)
    parts.Place.write_record = die
rows = []
for url in urls:
    download(url, cache, SourcesConfig(allow_private=True, **options), rows)
print(json.dumps(rows))
"""


def start(cache: Path, *urls: str, **options) -> subprocess.Popen:
    """Start a process that downloads `urls`."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    package = str(ROOT / "pipelines" / "sources")
    command = [sys.executable, "-c", PROGRAM, package, str(cache), json.dumps({"host_rate": 0, **options}), *urls]
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)


def rows_of(process: subprocess.Popen) -> list[dict]:
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return json.loads(output)


def wait_for(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "did not happen"
        time.sleep(0.01)


def part_size(cache: Path) -> int:
    return sum(path.stat().st_size for path in (cache / "parts").glob("*.part"))


def test_a_killed_download_is_resumed_without_loss(server: MediaServer, tmp_path: Path):
    url, cache = f"{server.url}/held/dance.mp4", tmp_path / "cache"
    process = start(cache, url)
    wait_for(lambda: part_size(cache) > 0)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    held = part_size(cache)
    assert 0 < held < len(VIDEO)
    rows: list[dict] = []
    path = download(url, cache, FAST, rows)
    assert path.name == sha256_bytes(VIDEO) and path.read_bytes() == VIDEO
    [_, headers] = server.asked("/held/dance.mp4")
    assert (headers["Range"], headers["If-Range"]) == (f"bytes={held}-", ETAG)
    assert (rows[0]["resumed_from"], rows[0]["bytes"]) == (held, len(VIDEO) - held)


@pytest.mark.parametrize("path", ["/video/x", "/chunked/x", "/plain/x"])
def test_a_file_that_was_whole_when_its_process_was_killed_is_not_fetched_again(server, tmp_path, path):
    cache = tmp_path / "cache"
    process = start(cache, server.url + path, die=True)
    assert process.wait() == -signal.SIGKILL
    rows: list[dict] = []
    assert download(server.url + path, cache, FAST, rows).read_bytes() == VIDEO
    assert len(server.requests) == 1
    assert (rows[0]["status"], rows[0]["sha256"]) == ("fetched", sha256_bytes(VIDEO))
    assert rows[0]["etag"] == (None if path == "/plain/x" else ETAG)
    assert [entry.name for entry in (cache / "parts").iterdir() if entry.suffix != ".lock"] == []


def test_a_file_that_has_its_name_but_no_record_is_not_fetched_again(server, tmp_path, monkeypatch):
    cache, url = tmp_path / "cache", f"{server.url}/chunked/x"
    with monkeypatch.context() as patched:
        patched.setattr(parts, "sync_folder", interrupt)  # right after the part was renamed
        with pytest.raises(KeyboardInterrupt):
            download(url, cache, FAST, [])
    assert download(url, cache, FAST, []).read_bytes() == VIDEO
    assert len(server.requests) == 1


def interrupt(_: Path) -> None:
    raise KeyboardInterrupt


def test_two_processes_that_want_one_url_ask_once(server: MediaServer, tmp_path: Path):
    url = f"{server.url}/busy/x"
    one, two = start(tmp_path / "cache", url), start(tmp_path / "cache", url)
    assert rows_of(one) == rows_of(two)
    assert len(server.requests) == 1


def test_connections_to_a_host_are_counted_over_processes(server: MediaServer, tmp_path: Path):
    urls = [f"{server.url}/busy/{number}" for number in range(8)]
    processes = [start(tmp_path / f"cache{k}", *urls[k::2], host_connections=1) for k in range(2)]
    assert sum(len(rows_of(process)) for process in processes) == 8
    assert (len(server.requests), server.most_at_once) == (8, 1)


def test_requests_to_a_host_are_counted_over_processes(server: MediaServer, tmp_path: Path):
    urls = [f"{server.url}/video/{number}" for number in range(8)]
    processes = [start(tmp_path / f"cache{k}", *urls[k::2], host_rate=10.0) for k in range(2)]
    rows = [row for process in processes for row in rows_of(process)]
    first = min(row["started"] for row in rows)
    last = max(row["started"] + row["seconds"] * 1e9 for row in rows)
    assert (last - first) / 1e9 >= 0.7  # the eighth starts 0.7 s after the first
