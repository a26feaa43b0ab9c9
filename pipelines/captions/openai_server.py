"""Caption with any OpenAI-compatible server, such as vLLM with Qwen2.5-VL, over HTTP."""

import base64
import io
import os
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.engine.stage import PermanentError, TransientError

RETRY_LATER = (408, 409, 425, 429)  # HTTP status codes


@dataclass(frozen=True)
class OpenAIServer:
    """A server at `base_url` (such as http://host:8000/v1) that serves `model`. The API key, if one is needed, is read
    from the environment variable named by `api_key_env`; it is never stored, hashed or logged."""

    base_url: str
    model: str
    api_key_env: str | None = None
    frames: int = 16
    long_side: int = 512
    max_new_tokens: int = 400
    timeout_s: float = 120.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("base_url must look like http://host:8000/v1")
        if parts.username or parts.password or parts.query:
            raise ValueError("base_url must not hold credentials: name an environment variable in api_key_env")


class ServerCaptioner:
    """Client of the server. Raises `PermanentError` if the API key is missing from the environment."""

    def __init__(self, config: OpenAIServer) -> None:
        import httpx

        self.config = config
        headers = {}
        if config.api_key_env:
            key = os.environ.get(config.api_key_env)
            if not key:
                raise PermanentError(f"the environment variable {config.api_key_env} is not set: put the API key there")
            headers["Authorization"] = f"Bearer {key}"
        self.client = httpx.Client(headers=headers, timeout=config.timeout_s)

    def ask(self, images: NDArray[np.uint8], sample_fps: float, turns: list[str]) -> str:
        """Answer the last of `turns` (user, assistant, user, ...) about frames [N, H, W, 3] RGB at `sample_fps`.

        Raises `TransientError` if the server is down or busy, `PermanentError` if it refuses the request.
        """
        import httpx

        body = {
            "model": self.config.model,
            "messages": chat(images, sample_fps, turns, self.config.long_side),
            "temperature": 0,
            "max_tokens": self.config.max_new_tokens,
        }
        url = f"{self.config.base_url.rstrip('/')}/chat/completions"
        try:
            reply = self.client.post(url, json=body)
        except httpx.TransportError as error:
            raise TransientError(f"the caption server at {url} does not answer: {type(error).__name__}") from None
        if reply.status_code in RETRY_LATER or reply.status_code >= 500:
            raise TransientError(f"the caption server at {url} is busy or broken: HTTP {reply.status_code}")
        if reply.status_code != 200:  # the body may contain the key, so keep it out of the message
            raise PermanentError(
                f"the caption server at {url} refused the request: HTTP {reply.status_code}; see its log"
            )
        try:
            answer = reply.json()["choices"][0]["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError):
            raise PermanentError(
                f"the reply of {url} does not follow the OpenAI chat protocol: check base_url"
            ) from None
        return str(answer or "")


def chat(images: NDArray[np.uint8], sample_fps: float, turns: list[str], long_side: int) -> list[dict[str, Any]]:
    """Return the messages of the chat protocol; the frames go with the first turn as JPEG."""
    messages: list[dict[str, Any]] = []
    for i, turn in enumerate(turns):
        content: list[dict[str, Any]] = [{"type": "text", "text": turn}]
        if i == 0:
            note = f"{len(images)} frames of a video in order, {sample_fps:.4g} per second:"
            shown = [{"type": "image_url", "image_url": {"url": _jpeg(image, long_side)}} for image in images]
            content = [{"type": "text", "text": note}, *shown, *content]
        messages.append({"role": "assistant" if i % 2 else "user", "content": content})
    return messages


def _jpeg(image: NDArray[np.uint8], long_side: int) -> str:
    from PIL import Image

    picture = Image.fromarray(image)
    picture.thumbnail((long_side, long_side))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
