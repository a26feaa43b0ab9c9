"""Objects of an object store as list items."""

import boto3
import pytest

from opendimo.pipelines.engine.stage import Failure
from opendimo.pipelines.sources import SourcesConfig, SourcesStage, discover
from opendimo.pipelines.sources.downloads.engine import download
from opendimo.pipelines.sources.downloads.parts import Place, Version
from opendimo.storage_schemas.ids import sha256_bytes
from tests.pipelines.media_server import VIDEO
from tests.storage_schemas.conftest import s3, s3_server  # noqa: F401

FAST = SourcesConfig(host_rate=0)


@pytest.fixture
def bucket(s3):  # noqa: F811
    """Return the URL prefix of dance.mp4, zip.mp4 and empty.mp4."""
    client = boto3.client("s3")
    prefix = s3.rpartition("/")[2]
    for name, body in (("dance.mp4", VIDEO), ("zip.mp4", b"PK\x03\x04" + VIDEO), ("empty.mp4", b"")):
        client.put_object(Bucket="lakes", Key=f"{prefix}/{name}", Body=body)
    return s3


def test_objects_of_a_list(bucket, tmp_path):
    (tmp_path / "list.csv").write_text(f"url,licence\n{bucket}/dance.mp4,CC0\n{bucket}/gone.mp4,\n")
    works = discover("internet", tmp_path / "list.csv", FAST)
    outcome = SourcesStage(str(tmp_path / "lake"), FAST).run(works)
    [row] = outcome.rows["sources"]
    assert (row["content_sha256"], row["licence"]) == (sha256_bytes(VIDEO), "CC0")
    assert [(r.error_class, r.reason) for r in outcome.rejects] == [("permanent", "gone")]
    assert sorted((f["host"], f["status"], f["bytes"]) for f in outcome.rows["fetches"]) == [
        ("s3://lakes", "fetched", len(VIDEO)),
        ("s3://lakes", "gone", 0),
    ]


@pytest.mark.parametrize(("name", "reason"), [("zip", "archive"), ("empty", "empty"), ("dance", "too_large")])
def test_objects_that_are_refused(bucket, tmp_path, name, reason):
    with pytest.raises(Failure) as caught:
        download(f"{bucket}/{name}.mp4", tmp_path, SourcesConfig(max_bytes=100 if name == "dance" else 10**9), [])
    assert caught.value.reason == reason


@pytest.mark.parametrize("same", [True, False])
def test_a_begun_object_is_resumed_if_it_is_still_the_same(bucket, tmp_path, same):
    url, rows = f"{bucket}/dance.mp4", []
    tag = boto3.client("s3").head_object(Bucket="lakes", Key=f"{bucket.rpartition('/')[2]}/dance.mp4")["ETag"]
    (tmp_path / "parts").mkdir()
    part = Place(tmp_path, url).open()
    part.begin(Version(len(VIDEO), tag if same else '"other"'))
    part.append(VIDEO[:1000])
    part.abandon()
    assert download(url, tmp_path, FAST, rows).read_bytes() == VIDEO
    assert rows[0]["resumed_from"] == (1000 if same else 0)
    assert rows[0]["bytes"] == len(VIDEO) - rows[0]["resumed_from"]
