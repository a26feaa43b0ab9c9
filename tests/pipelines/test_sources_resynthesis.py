"""Lists that name synthetic re-renderings of their videos."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opendimo.pipelines.clips.stage import ClipsConfig, ClipsStage
from opendimo.pipelines.clips.stage import plan as plan_clips
from opendimo.pipelines.engine.loop import run_stage
from opendimo.pipelines.sources import SourcesConfig, SourcesStage, discover
from opendimo.pipelines.sources.internet import VIEW
from opendimo.pipelines.sources.stage import plan
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.takedown import take_down, taken_down
from opendimo.storage_schemas.media.video import encode
from tests.pipelines.media_server import MediaServer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a video, another one, and an inverted copy of the first."""
    frames = np.random.default_rng(0).integers(0, 256, (8, 48, 64, 3), np.uint8)
    videos = {"real.mp4": frames, "other.mp4": np.flip(frames, 1), "render.mp4": 255 - frames}
    (tmp_path / "in").mkdir()
    for name, images in videos.items():
        (tmp_path / "in" / name).write_bytes(encode(images, Fraction(30)))
    return tmp_path / "in"


def listed(folder: Path, *lines: str, header: str = "path,resynthesis_of") -> Path:
    path = folder / "metadata.csv"
    path.write_text("\n".join([header, *lines]))
    return path


def ingest(lake: Lake, path: Path, **config: Any) -> dict[str, dict[str, Any]]:
    """Ingest a list; return the rows of `sources` by name."""
    stage = SourcesStage(lake.uri, SourcesConfig(**config))
    run_stage(lake, stage, plan(lake, stage, "internet", path))
    return {row["name"]: row for row in lake.read("sources")}


def problems(path: Path) -> list[tuple[str, str]]:
    payloads = [work.payload for work in discover("internet", path, SourcesConfig())]
    return [(item.reason, item.problem) for item in payloads if hasattr(item, "problem")]


def test_a_rerendering_is_a_view_of_the_capture_of_its_original(folder: Path, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    rows = ingest(lake, listed(folder, "render.mp4,real.mp4", "real.mp4,", "other.mp4,"))
    real, render, other = rows["real.mp4"], rows["render.mp4"], rows["other.mp4"]
    assert render["capture_id"] == real["capture_id"] != other["capture_id"]
    assert (render["view"], real["view"]) == ("resynthesis render.mp4", VIEW)
    assert render["resynthesis_of"] == real["uri"] and real["resynthesis_of"] is None
    [capture] = lake.read("captures", where=f"capture_id = '{real['capture_id']}'")
    assert (capture["take"], capture["views"], capture["sync_method"]) == ("real.mp4", [VIEW], "single")


def test_the_original_is_the_same_source_with_and_without_its_rerendering(folder: Path, tmp_path: Path) -> None:
    alone = ingest(Lake(tmp_path / "alone"), listed(folder, "real.mp4", header="path"))
    both = ingest(Lake(tmp_path / "both"), listed(folder, "real.mp4,", "render.mp4,real.mp4"))
    assert alone["real.mp4"]["source_id"] == both["real.mp4"]["source_id"]


def test_a_rerendering_added_later_by_another_list_joins_the_stored_original(folder: Path, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    before = ingest(lake, folder / "real.mp4")
    rows = ingest(lake, listed(folder, "real.mp4,", "render.mp4,real.mp4"))
    assert rows["real.mp4"]["source_id"] == before["real.mp4"]["source_id"]
    assert rows["render.mp4"]["capture_id"] == before["real.mp4"]["capture_id"]


def test_addresses_are_originals_too(folder: Path, tmp_path: Path, server: MediaServer) -> None:
    server.files = {name: (folder / name).read_bytes() for name in ("real.mp4", "render.mp4")}
    real, render = (f"{server.url}/file/{name}" for name in server.files)
    rows = ingest(Lake(tmp_path / "lake"), listed(folder, f"{render},{real}#t=3", f"{real},"), allow_private=True)
    by_uri = {row["uri"]: row for row in rows.values()}
    assert by_uri[render]["capture_id"] == by_uri[real]["capture_id"]
    assert (by_uri[render]["resynthesis_of"], by_uri[real]["resynthesis_of"]) == (real, None)


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (["render.mp4,reel.mp4", "real.mp4,"], "resynthesis_of reel.mp4 is no other video of the list"),
        (["render.mp4,render.mp4", "real.mp4,"], "resynthesis_of render.mp4 is no other video"),
        (["render.mp4,other.mp4", "other.mp4,real.mp4", "real.mp4,"], "resynthesis_of other.mp4 is no other video"),
    ],
)
def test_an_original_must_be_a_video_of_the_list(folder: Path, lines: list[str], text: str) -> None:
    [(reason, problem)] = problems(listed(folder, *lines))
    assert reason == "no_original" and text in problem and "line 2" in problem


def test_an_original_that_is_no_file_costs_both_lines(folder: Path) -> None:
    found = problems(listed(folder, "render.mp4,gone.mp4", "gone.mp4,"))
    assert {reason for reason, _ in found} == {"no_original", "no_file"}


def test_a_broken_original_and_a_copy_of_it_are_rejects(folder: Path, tmp_path: Path) -> None:
    (folder / "broken.mp4").write_bytes(b"no video")
    (folder / "copy.mp4").write_bytes((folder / "real.mp4").read_bytes())
    lines = ["render.mp4,broken.mp4", "broken.mp4,", "copy.mp4,real.mp4", "real.mp4,"]
    lake = Lake(tmp_path / "lake")
    assert set(ingest(lake, listed(folder, *lines))) == {"real.mp4"}
    messages = {row["name"]: row["message"] for row in lake.read("rejects")}
    assert "its original cannot be read" in messages["render.mp4"]
    assert "the same content as its original" in messages["copy.mp4"]


def test_a_takedown_of_the_original_takes_its_rerendering_along(folder: Path, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    rows = ingest(lake, listed(folder, "render.mp4,real.mp4", "real.mp4,", "other.mp4,"))
    take_down(lake, "content_sha256", rows["real.mp4"]["content_sha256"], "asked for", "ann")
    assert set(taken_down(lake).to_pylist()) == {rows[name]["source_id"] for name in ("real.mp4", "render.mp4")}


def test_both_are_cut(folder: Path, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    ingest(lake, listed(folder, "render.mp4,real.mp4", "real.mp4,"))
    planned = plan_clips(lake, ClipsStage(lake.uri, ClipsConfig()))
    assert len(planned) == 2
