"""Tests of the report's list of all clips and of the previews: content, escaping, takedowns, length and size."""

import html
import json
import re
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from opendimo.pipelines.quality.policy import Policy
from opendimo.pipelines.report import write_report
from opendimo.pipelines.report.previews import chosen_frames
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.media.video import decode, encode, probe
from tests.pipelines.report_lake import (
    FRAMES,
    HEIGHT,
    HOSTILE,
    WIDTH,
    caption_row,
    clip_row,
    film,
    pose_row,
    run,
    source_row,
    tombstone_row,
)

SCALE = 320 / WIDTH
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def fill(lake: Lake, *clips: dict, video: bytes | None = None) -> Lake:
    sources = [source_row(clip["name"], source_id=clip["source_id"]) for clip in clips]
    run(lake, "sources", {"sources": sources}, len(clips))
    stored = [clip for clip in clips if clip["video_sha256"] is not None]
    videos = [
        {"clip_id": c["clip_id"], "video": video or film(), "sha256": "0", "work_key": c["work_key"]} for c in stored
    ]
    run(lake, "clips", {"clips": list(clips), "clip_videos": videos}, len(clips))
    return lake


@pytest.fixture(scope="module")
def lake(tmp_path_factory) -> Lake:
    """Ten blurred clips, of which the page shows eight; one of two kept clips is labelled, the other is hostile; one
    clip without a person; one that was taken down."""
    lake = Lake(tmp_path_factory.mktemp("lake") / "lake")
    blurred = [clip_row(f"soft{k}", sharpness=2.0 + k) for k in range(10)]
    nobody = clip_row("empty", video_sha256=None, track=None, hdr_share=float("nan"))
    fill(lake, *blurred, nobody, clip_row("labelled"), clip_row(HOSTILE, capture_id="other"), clip_row("gone"))
    lake.append("takedown", {"tombstones": [tombstone_row("source gone")]})
    run(lake, "poses", {"poses": [pose_row("labelled")]}, 1)
    run(lake, "captions", {"captions": [caption_row("labelled", f"The camera trucks. {HOSTILE}")]}, 1)
    return lake


@pytest.fixture(scope="module")
def out(lake, tmp_path_factory) -> Path:
    """Folder of a report on `lake`."""
    policy = Policy(min_hands_visible=0.0, max_text_share=0.25)  # limits that filter nothing
    return write_report(lake.uri, tmp_path_factory.mktemp("report"), policy=policy).parent


def listed(out: Path) -> dict:
    """Return the data of `clips.html`."""
    script, *_ = re.findall(r'<script defer src="([^"]+)"', (out / "clips.html").read_text())
    code = (out / script).read_text()
    return json.loads(code.removeprefix("const CLIPS = ").removesuffix(";\n"))


def texts(data: dict, name: str) -> list[str]:
    column = data["texts"][name]
    return [column["values"][code] for code in column["codes"]]


def previewed(data: dict) -> dict[str, list[str]]:
    names = texts(data, "name")
    return {names[int(row)]: links for row, links in data["previews"].items()}


def test_all_clips_are_listed_with_their_verdict_but_those_taken_down(out) -> None:
    data = listed(out)
    verdicts = dict(zip(texts(data, "name"), texts(data, "verdict"), strict=True))
    kept = {"labelled": "kept", HOSTILE: "kept", "empty": "no_person"}
    assert verdicts == {f"soft{k}": "blurred" for k in range(10)} | kept
    assert data["count"] == 13 and '<a href="clips.html">All 13 clips</a>' in (out / "index.html").read_text()


def test_a_clip_is_listed_with_its_labels_and_scores_and_the_limits_on_them(out) -> None:
    data = listed(out)
    row = texts(data, "name").index("labelled")
    facts = {name: texts(data, name)[row] for name in data["texts"]}
    assert facts["terms"] == "truck right" and facts["caption"] == f"The camera trucks. {HOSTILE}"
    assert (facts["kind"], facts["licence"], facts["source"], facts["size"]) == (
        "unreal",
        "CC0-1.0",
        "labelled",
        "96×64",
    )
    values = {column["name"]: column["values"][row] for column in data["numbers"]}
    assert (values["person_height"], values["sharpness"], values["seconds"]) == (0.375, 100.0, 2.0)
    assert values["pose_weight"] == 0.875 and values["hands_visible"] is None
    limits = {column["name"]: (column["low"], column["high"]) for column in data["numbers"]}
    assert limits["text_share"] == (None, 0.25) and limits["hands_visible"] == (0.0, None)
    assert limits["seconds"] == (None, None)
    assert set(next(c["values"] for c in data["numbers"] if c["name"] == "hdr_share")) == {None}  # JSON has no NaN


def test_codes_sort_like_the_texts(tmp_path) -> None:
    names = ["beta", "Alpha", "alpha", "gamma", ""]
    write_report(
        fill(Lake(tmp_path / "lake"), *(clip_row(f"{n} x") | {"name": n} for n in names)).uri, tmp_path / "out"
    )
    assert listed(tmp_path / "out")["texts"]["name"]["values"] == ["", "Alpha", "alpha", "beta", "gamma"]


def test_text_from_the_lake_is_in_the_data_only(out) -> None:
    page = (out / "clips.html").read_text()
    assert "alert" not in page and page.count("<script") == 3
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", scripts(out))


def scripts(out: Path) -> str:
    return "".join(path.read_text() for path in (out / "media").glob("*.js"))


def test_clips_that_the_first_page_shows_have_previews_and_as_many_others_as_asked(lake, tmp_path) -> None:
    playable = {}
    for count in (0, 1, 60):
        write_report(lake.uri, tmp_path, previews=count)
        playable[count] = set(previewed(listed(tmp_path)))
    assert len(playable[0]) == 2 + 8 and {"labelled", HOSTILE} < playable[0]
    assert playable[0] < playable[1] < playable[60] and len(playable[1]) == 11
    assert len(playable[60]) == 12  # all but the one without a person
    links = re.findall(r'<video class="preview"[^>]* src="([^"]+)"', (tmp_path / "index.html").read_text())
    assert len(links) == 10 and all((tmp_path / link).is_file() for link in links)


def test_a_preview_is_a_small_video_with_the_box_and_the_skeleton(tmp_path) -> None:
    joints = np.tile(np.float32([70.5, 10.5, 1]), (FRAMES, 52, 1))  # all in one point of the grey background
    lake = fill(Lake(tmp_path / "lake"), clip_row("a"))
    run(lake, "poses", {"poses": [pose_row("a") | {"joints_2d": joints}]}, 1)
    write_report(lake.uri, tmp_path / "out")
    [(video, poster)] = previewed(listed(tmp_path / "out")).values()
    info = probe(tmp_path / "out" / video)
    assert (info.codec, info.width, info.height, info.fps) == ("h264", 320, 214, 12)
    frames = decode(tmp_path / "out" / video).astype(int)
    assert len(frames) == FRAMES
    for t in (0, 12, 23):  # the white square, 24 pixels wide, moves by two pixels a frame
        white = np.flatnonzero(frames[t, 107, :, 1] > 180)
        assert white[[0, -1]] == pytest.approx([SCALE * (10 + 2 * t), SCALE * (34 + 2 * t)], abs=4)
        red, green, _ = frames[t, round(SCALE * 20), int(white[0]) : int(white[-1])].T  # the upper edge of the box
        assert ((red - green) > 60).sum() > 50
        joint = frames[t, round(SCALE * 10.5), round(SCALE * 70.5)]
        assert joint.max() - joint.min() > 60
    assert np.asarray(Image.open(tmp_path / "out" / poster)).shape == (214, 320, 3)


def test_a_preview_of_a_long_clip_is_its_middle(tmp_path) -> None:
    square = decode(film())
    clip = clip_row("a", fps_num=4, track=None)  # six seconds
    lake = fill(Lake(tmp_path / "lake"), clip, video=encode(square, Fraction(4)))
    write_report(lake.uri, tmp_path / "out")
    [(video, _)] = previewed(listed(tmp_path / "out")).values()
    frames = decode(tmp_path / "out" / video).astype(int)
    left = [int((frame[107, :, 1] > 180).argmax()) for frame in frames]
    assert left == pytest.approx([SCALE * (10 + 2 * t) for t in range(6, 18)], abs=3)


@pytest.mark.parametrize(
    ("frames", "fps", "expected"),
    [
        (49, Fraction(30), range(49)),
        (600, Fraction(60), range(210, 390, 2)),
        (600, Fraction(30000, 1001), range(255, 344)),  # 89 frames last 2.97 s, 90 would last 3.003 s
        (300, Fraction(31), range(103, 195, 2)),  # 46 frames at 15.5 per second
        (5, Fraction(1, 4), range(2, 3)),
    ],
)
def test_a_preview_lasts_three_seconds_at_most(frames, fps, expected) -> None:
    assert list(chosen_frames(frames, fps)) == list(expected)


def test_portrait_clips_have_the_same_long_side(tmp_path) -> None:
    tall = clip_row("a", width=HEIGHT, height=WIDTH, track=None)
    lake = fill(Lake(tmp_path / "lake"), tall, video=encode(decode(film()).swapaxes(1, 2), Fraction(12)))
    write_report(lake.uri, tmp_path / "out")
    [(video, _)] = previewed(listed(tmp_path / "out")).values()
    assert decode(tmp_path / "out" / video).shape == (FRAMES, 320, 214, 3)


def test_a_clip_whose_video_is_broken_is_listed_without_a_preview(tmp_path) -> None:
    lake = fill(Lake(tmp_path / "lake"), clip_row("a"), video=b"broken")
    write_report(lake.uri, tmp_path / "out")
    data = listed(tmp_path / "out")
    assert data["count"] == 1 and data["previews"] == {} and data["stored"] == [1]


def test_a_takedown_removes_a_clip_from_a_report_that_is_written_again(tmp_path) -> None:
    lake = fill(Lake(tmp_path / "lake"), clip_row("stays"), clip_row("secret", capture_id="other"))
    write_report(lake.uri, tmp_path / "out")
    before = previewed(listed(tmp_path / "out"))
    assert "secret" in scripts(tmp_path / "out")
    lake.append("takedown", {"tombstones": [tombstone_row("source secret")]})
    write_report(lake.uri, tmp_path / "out")
    assert "secret" not in scripts(tmp_path / "out") + (tmp_path / "out" / "index.html").read_text()
    assert not any((tmp_path / "out" / link).exists() for link in before["secret"])
    assert all((tmp_path / "out" / link).exists() for link in before["stays"])


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_browser_filters_and_sorts_by_the_address(out, tmp_path) -> None:
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"]
    view = "kind=unreal&score=sharpness&min=10&sort=sharpness&order=down&playable=1"
    command = [str(CHROMIUM), *options, "--virtual-time-budget=4000", "--dump-dom"]
    page = subprocess.run(
        [*command, f"{(out / 'clips.html').as_uri()}#{view}"], capture_output=True, text=True, check=True, timeout=120
    ).stdout
    rows = re.findall(r'<th scope="row">.*?<bdi>(.*?)</bdi>', page[page.index('<tbody id="rows">') :])
    assert [html.unescape(name) for name in rows] == [HOSTILE, "labelled", "soft9", "soft8"]
    assert "<img" not in page  # of the hostile name
