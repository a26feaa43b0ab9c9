"""Tests of the client of OpenAI-compatible servers, against a local HTTP server."""

import base64
import io
import json
import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from opendimo.pipelines.captions.openai_server import OpenAIServer, ServerCaptioner
from opendimo.pipelines.captions.stage import CaptionsConfig, CaptionsStage, plan
from opendimo.pipelines.engine.stage import PermanentError, TransientError
from opendimo.pipelines.quality.policy import Policy
from tests.pipelines.caption_lake import FRAMES, cameras, clip_row, make_lake, sliding_picture

SECRET = "sk-not-to-be-seen"
GOOD = json.dumps({"camera": [{"term": "truck_right"}], "content": "A wall slides by."})


class Server(ThreadingHTTPServer):
    """Answers each request with the next of `replies` (status, text) and records the requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies: list[tuple[int, str]] = []
        self.requests: list[tuple[str, dict, dict]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, dict(self.headers), body))
        status, text = self.server.replies.pop(0)
        if status == 200 and text != "not the protocol":
            text = json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]})
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *args) -> None:
        pass


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def client(server: Server, **options) -> ServerCaptioner:
    return ServerCaptioner(OpenAIServer(server.url, "qwen2.5-vl-7b", **options))


def test_frames_go_as_jpeg_before_the_question(server):
    server.replies = [(200, "fine")]
    pictures = sliding_picture()[::12]
    assert client(server, long_side=96).ask(pictures, 2.0, ["What does the camera do?"]) == "fine"
    path, _, body = server.requests[0]
    assert path == "/v1/chat/completions"
    assert (body["model"], body["temperature"]) == ("qwen2.5-vl-7b", 0)
    note, *shown, question = body["messages"][0]["content"]
    assert note["text"].startswith("4 frames of a video in order, 2 per second")
    assert question == {"type": "text", "text": "What does the camera do?"}
    assert len(shown) == 4
    kind, data = shown[0]["image_url"]["url"].split(",", 1)
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert (kind, image.format, image.size) == ("data:image/jpeg;base64", "JPEG", (96, 64))
    difference = np.abs(np.asarray(image, dtype=float).mean() - pictures[0].mean())
    assert difference < 3


def test_a_conversation_shows_the_frames_once(server):
    server.replies = [(200, "fine")]
    client(server).ask(sliding_picture()[:1], 2.0, ["question", "answer", "again"])
    messages = server.requests[0][2]["messages"]
    assert [m["role"] for m in messages] == ["user", "assistant", "user"]
    assert [len(m["content"]) for m in messages] == [3, 1, 1]


def test_the_key_goes_to_the_server_and_nowhere_else(server, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("CAPTION_KEY", SECRET)
    server.replies = [(200, "fine"), (401, f"wrong key {SECRET}")]
    captioner = client(server, api_key_env="CAPTION_KEY")
    captioner.ask(sliding_picture()[:1], 2.0, ["?"])
    assert server.requests[0][1]["Authorization"] == f"Bearer {SECRET}"
    with pytest.raises(PermanentError, match="HTTP 401") as refused:
        captioner.ask(sliding_picture()[:1], 2.0, ["?"])
    assert SECRET not in str(refused.value) + caplog.text + repr(captioner.config)


def test_a_missing_key_is_named(server, monkeypatch):
    monkeypatch.delenv("CAPTION_KEY", raising=False)
    with pytest.raises(PermanentError, match="CAPTION_KEY"):
        client(server, api_key_env="CAPTION_KEY")


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_tried_again_later(server, status):
    server.replies = [(status, "")]
    with pytest.raises(TransientError, match=str(status)):
        client(server).ask(sliding_picture()[:1], 2.0, ["?"])


def test_a_server_that_is_down_is_tried_again_later():
    with pytest.raises(TransientError, match="does not answer"):
        ServerCaptioner(OpenAIServer("http://127.0.0.1:9/v1", "m")).ask(sliding_picture()[:1], 2.0, ["?"])


def test_another_protocol_is_recognised(server):
    server.replies = [(200, "not the protocol")]
    with pytest.raises(PermanentError, match="OpenAI chat protocol"):
        client(server).ask(sliding_picture()[:1], 2.0, ["?"])


@pytest.mark.parametrize(
    "url", ["host:8000", "ftp://host/v1", f"http://user:{SECRET}@host/v1", f"http://h/v1?key={SECRET}"]
)
def test_addresses_are_checked_and_hold_no_secrets(url):
    with pytest.raises(ValueError, match="base_url") as refused:
        OpenAIServer(url, "m")
    assert SECRET not in str(refused.value)


def test_a_good_answer_makes_the_caption(server, tmp_path):
    """Two clips with the same video: the first has known cameras, the second has none."""
    standing = np.tile(np.float32([80, 30, 100, 90]), (FRAMES, 1))
    standing[:, [0, 2]] -= np.linspace(0, 71, FRAMES)[:, None]  # 6.5 m away, passed by 2 m
    rows = [clip_row("known", world_to_camera=cameras(right=2.0), metric=True, track=standing), clip_row("unknown")]
    lake = make_lake(tmp_path / "lake", rows)
    stage = CaptionsStage(lake.uri, CaptionsConfig(vlm=OpenAIServer(server.url, "qwen2.5-vl-7b", frames=6)))
    stage.setup()
    server.replies = [(200, "let me think"), (200, GOOD), (200, GOOD)]  # the first answer is invalid and is retried
    outcome = stage.run(plan(lake, stage, Policy()).all())
    assert not outcome.rejects
    known, unknown = outcome.rows["captions"]
    assert {known["captioner"], unknown["captioner"]} == {"qwen2.5-vl-7b"}
    assert known["text"] == "The camera moves to the right. A wall slides by."
    assert known["agreement"] == 1.0
    assert "let me think" in known["raw_answer"]
    assert unknown["raw_answer"] == GOOD
    # `image_motion` says pan, the model says truck: they agree, and the more specific term is used
    assert [t["term"] for t in unknown["camera_terms"]] == ["truck_right"]
    assert unknown["camera_terms"][0]["end_frame"] == FRAMES
    assert unknown["agreement"] == 1.0
    asked = server.requests[0][2]["messages"][0]["content"]
    assert len(asked) == 6 + 2
    assert "truck_right (medium, frames 0-48)" in asked[-1]["text"]


def test_a_server_that_is_down_rejects_the_clip_for_a_later_try(tmp_path):
    lake = make_lake(tmp_path / "lake", [clip_row("x")])
    stage = CaptionsStage(lake.uri, CaptionsConfig(vlm=OpenAIServer("http://127.0.0.1:9/v1", "m")))
    stage.setup()
    outcome = stage.run(plan(lake, stage, Policy()).all())
    assert [r.error_class for r in outcome.rejects] == ["transient"]
