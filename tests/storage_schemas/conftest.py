"""Fixtures: a local S3 server, lakes on it and on disk, and a fragmented lake for compaction and cleaning."""

import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import BotoCoreError

from opendimo.storage_schemas.lake.compact import ENOUGH_BLOBS
from tests.storage_schemas.upkeep_lake import fill


@pytest.fixture(scope="session")
def s3_server() -> Iterator[dict[str, str]]:
    """Start a local S3 server; yield the environment variables that point s3:// lakes to it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        client = boto3.client(
            "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="any", aws_secret_access_key="any"
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                client.create_bucket(Bucket="lakes")
                break
            except BotoCoreError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
        yield {
            "AWS_ENDPOINT_URL": url,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
        }
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def s3(s3_server: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """An empty prefix on the S3 server; sets the environment variables of the test."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return f"s3://lakes/{uuid.uuid4().hex}"


@pytest.fixture(params=["disk", "s3"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The location of a lake: on disk, and on an object store."""
    return str(tmp_path / "lake") if request.param == "disk" else str(request.getfixturevalue("s3"))


@pytest.fixture(scope="session")
def fragments_to_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake in which every non-empty table needs compaction; for copying."""
    home = tmp_path_factory.mktemp("fragmented") / "lake"
    fill(str(home), 0, ENOUGH_BLOBS)
    return home


@pytest.fixture
def fragmented(fragments_to_copy: Path, tmp_path: Path) -> str:
    """A copy of that lake for one test."""
    return str(shutil.copytree(fragments_to_copy, tmp_path / "lake"))
