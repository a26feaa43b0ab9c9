"""Services that run as child processes: free ports and readiness."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from opendimo.dags.services import PORTS, answers, free_port, is_free


class AnswersAnything(BaseHTTPRequestHandler):
    """Answer every path with status 200, as exporters of Prometheus metrics do."""

    body = b"# HELP up a metric\nup 1\n"

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def exporter() -> Iterator[int]:
    """Serve metrics on any port; return the port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), AnswersAnything) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_another_server_is_not_taken_for_prefect(exporter: int) -> None:
    assert not is_free(exporter)
    assert not answers(f"http://127.0.0.1:{exporter}/api")


def test_a_free_port_is_no_ephemeral_port() -> None:
    ports = {free_port() for _ in range(20)}
    assert ports <= set(PORTS)
    assert len(ports) > 15, "processes that start at the same time choose different ports"
    with open("/proc/sys/net/ipv4/ip_local_port_range") as limits:
        lowest = int(limits.read().split()[0])
    assert max(ports) < lowest
