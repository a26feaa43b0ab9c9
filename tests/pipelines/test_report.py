"""Tests of the report page: content, hidden clips, caching of media, and escaping."""

import html
import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from opendimo.pipelines.progress import status
from opendimo.pipelines.quality.policy import Policy
from opendimo.pipelines.report import judged, media, write_report
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.media.video import decode
from opendimo.storage_schemas.releases.approval import approve_release
from opendimo.storage_schemas.releases.release import create_release
from tests.pipelines.report_lake import (
    FPS,
    FRAMES,
    HOSTILE,
    caption_row,
    clip_row,
    duplicate_row,
    film,
    pose_row,
    reject_row,
    rig_row,
    run,
    source_row,
    tombstone_row,
)


class Tags(HTMLParser):
    """Collects all tag names, links and event handlers of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.links: list[str] = []
        self.handlers: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags[tag] += 1
        self.links += [value for name, value in attrs if name in ("src", "href", "poster", "srcset")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]


@pytest.fixture(scope="module")
def lake(tmp_path_factory) -> Lake:
    """Lake with two kept views of a take, a kept clip with hostile text, a blurred clip, a taken-down clip, and three
    rejected files."""
    lake = Lake(tmp_path_factory.mktemp("lake") / "lake")
    names = ["left", "right", HOSTILE, "soft", "gone"]
    sources = [source_row(name) for name in names]
    take = {
        "capture_id": "take", "kind": "unreal", "take": "take 7", "views": ["left", "right"], "sync_method": "rendered",
        "gravity_down": np.float32([0, 1, 0]), "work_key": "source left",
    }  # fmt: skip
    rejects = [reject_row(k) for k in range(3)]
    run(lake, "sources", {"sources": sources, "captures": [take], "rejects": rejects}, 8)
    lake.append("takedown", {"tombstones": [tombstone_row("source gone")]})
    special = {
        "soft": {"sharpness": 1.0},
        HOSTILE: {"capture_id": HOSTILE, "kind": "internet", "world_to_camera": None},
    }
    clips = [clip_row(name, **special.get(name, {})) for name in names]
    videos = [{"clip_id": c["clip_id"], "video": film(), "sha256": "0", "work_key": c["work_key"]} for c in clips]
    run(lake, "clips", {"clips": clips, "clip_videos": videos}, 5)
    run(lake, "poses", {"poses": [pose_row("left")]}, 1)
    run(lake, "captions", {"captions": [caption_row("left", f"The camera trucks. {HOSTILE}")]}, 1)
    return lake


def page(lake: Lake, out: Path, **options) -> str:
    return write_report(lake.uri, out, **options).read_text()


def text_of(source: str) -> str:
    body = re.sub(r"<(style|title)\b.*?</\1>", " ", source, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


def test_the_funnel_shows_the_accounts_of_the_lake(lake, tmp_path) -> None:
    text = text_of(page(lake, tmp_path))
    for account in status.funnel(lake, Policy()):
        filtered, rejected = sum(account.filtered.values()), sum(account.rejected.values())
        cells = " ".join(str(n) if n else "–" for n in (filtered, rejected))
        assert re.search(rf"\b{account.stage}\b [\w, ]+ {account.inputs} {account.done} {cells}", text), account
    assert "sources source items 8 5 – 3 data 3 5" in text
    assert "blurred 1" in text and "taken down 1" in text


def test_text_from_the_lake_is_escaped(lake, tmp_path) -> None:
    source = page(lake, tmp_path)
    tags = Tags(source)
    assert tags.tags["script"] == 1 and not tags.handlers  # our player
    assert text_of(source).count("<script>alert('clip')</script>") >= 3  # clip, caption, rejects: as escaped text


def test_every_link_is_a_file_beside_the_page_or_a_place_on_it(lake, tmp_path) -> None:
    source = page(lake, tmp_path)
    links = Tags(source).links
    anchors = set(re.findall(r'id="([^"]+)"', source))
    assert sum(link.startswith("media/") for link in links) >= 3
    for link in links:
        file, _, anchor = link.partition("#")
        assert (tmp_path / file).is_file() if file else anchor in anchors, link


def test_labels_of_a_clip_are_on_its_card(lake, tmp_path) -> None:
    text = text_of(page(lake, tmp_path))
    assert "truck right" in text and "The camera trucks." in text
    assert "by truth" in text and "0.88" in text and "100 / 0 %" in text  # weight, hands valid


def test_a_clip_that_was_taken_down_is_counted_but_not_shown(lake, tmp_path) -> None:
    source = page(lake, tmp_path)
    assert "Preview of soft" in source
    assert "of gone" not in source and not re.search(r"<bdi>gone", source)


def test_media_of_clips_no_longer_shown_are_removed(lake, tmp_path) -> None:
    old, other = tmp_path / "media" / f"{'0' * 32}.jpg", tmp_path / "media" / "mine.jpg"
    old.parent.mkdir()
    old.touch()
    other.touch()
    page(lake, tmp_path)
    assert not old.exists() and other.exists()


def test_a_second_page_renders_no_picture_again(lake, tmp_path, monkeypatch) -> None:
    page(lake, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "media").iterdir()}
    monkeypatch.setattr(media, "jpeg", lambda image: pytest.fail("a picture was rendered again"))
    page(lake, tmp_path)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "media").iterdir()}


def test_an_empty_lake_says_so(tmp_path) -> None:
    assert "This lake is empty" in text_of(page(Lake(tmp_path / "lake"), tmp_path / "out"))


def test_a_path_that_is_no_lake_is_refused_and_not_made(tmp_path) -> None:
    with pytest.raises(ValueError, match="is not a lake"):
        write_report(tmp_path / "typo", tmp_path / "out")
    assert not (tmp_path / "typo").exists()


def test_a_lake_whose_accounts_disagree_is_shown_with_a_warning(tmp_path) -> None:
    lake = Lake(tmp_path / "lake")
    lake.append("outside of any stage", {"clips": [clip_row("a", video_sha256=None, track=None)]})
    assert "The accounts do not balance. clips: 0 inputs, but 1 accounted for" in text_of(page(lake, tmp_path / "out"))


def test_a_video_that_cannot_be_read_does_not_stop_the_page(tmp_path) -> None:
    lake = Lake(tmp_path / "lake")
    broken = {"clip_id": "clip a", "video": b"broken", "sha256": "0", "work_key": "cut a"}
    run(lake, "clips", {"clips": [clip_row("a")], "clip_videos": [broken]}, 1)
    assert "the stored video cannot be shown: not a readable video" in text_of(page(lake, tmp_path / "out"))


def clips_of(lake: Lake, *clips: dict) -> None:
    videos = [{"clip_id": c["clip_id"], "video": film(), "sha256": "0", "work_key": c["work_key"]} for c in clips]
    run(lake, "clips", {"clips": list(clips), "clip_videos": videos}, len(clips))


def test_a_pair_of_duplicates_is_shown_with_the_evidence_and_who_is_dropped(tmp_path) -> None:
    lake = Lake(tmp_path / "lake")
    clips_of(lake, *(clip_row(name, capture_id=name) for name in ("copy", "best", "mirror")))
    links = [duplicate_row("copy", "best"), duplicate_row("mirror", "best", mirrored=True, distance=3.25)]
    reverse_link = duplicate_row("copy", "best", duplicate_id="again", clip_id="clip best", other_clip_id="clip copy")
    run(lake, "duplicates", {"duplicates": [*links, reverse_link]}, 3)
    source = page(lake, tmp_path / "out")
    text = text_of(source[source.index('id="duplicates"') : source.index('id="rigs"')])
    assert "2 pairs of clips with footage in common; 1 clip dropped as duplicates" in text
    assert "preferred: best , 96 x 64, 24 frames dropped: copy ," in text
    assert "not dropped: mirror" in text and "copy, mirrored: 100 % of its frames" in text and "3.2 bits" in text
    assert text.index("dropped: copy") < text.index("not dropped: mirror")


def test_both_pictures_of_a_pair_are_of_the_same_moment(tmp_path) -> None:
    lake = Lake(tmp_path / "lake")
    clips_of(lake, *(clip_row(name, capture_id=name, track=None) for name in ("part", "best")))
    part = duplicate_row("part", "best", kind="part", start_frame=2, end_frame=8, offset_frames=10, share=0.25)
    run(lake, "duplicates", {"duplicates": [part]}, 2)
    source = page(lake, tmp_path / "out")
    section = source[source.index('id="duplicates"') : source.index('id="rigs"')]
    pictures = [np.asarray(Image.open(tmp_path / "out" / link)) for link in re.findall(r'src="([^"]+)"', section)]
    # the square is 24 wide and starts at x = 10 + 2 t; the picture is scaled from 96 to 240: frames 15 and 5
    left = [int((picture[80, :, 0] > 180).argmax()) for picture in pictures]
    assert left == pytest.approx([2.5 * (10 + 2 * 15), 2.5 * (10 + 2 * 5)], abs=4)


def test_cameras_of_a_rig_have_their_offset_residual_and_verdict(tmp_path) -> None:
    lake = Lake(tmp_path / "lake")
    clips_of(lake, clip_row("a"))
    late = {"view": HOSTILE, "offset_frames": 2.25, "verdict": "late", "note": "two frames late"}
    lost = {"view": "lost", "offset_frames": None, "residual_px": 37.5, "verdict": "quarantined"}
    run(lake, "rigs", {"rigs": [rig_row("fine", {"view": "x"}, {"view": "y"}), rig_row("take", late, lost)]}, 2)
    source = page(lake, tmp_path / "out")
    text = text_of(source[source.index('id="rigs"') : source.index('id="release"')])
    assert "2 rigs measured: 1 camera late, 2 cameras ok, 1 camera quarantined" in text
    assert text.index("quarantined", 120) < text.index("fine")  # the worst rig first
    assert "2.25" in text and "37.5" in text and "two frames late" in text and "unknown" in text
    assert Tags(source).tags["script"] == 1


def test_limits_of_the_policy_are_lines_on_the_scores_they_limit(lake, tmp_path) -> None:
    def limits(policy: Policy) -> list[str]:
        return re.findall(r'aria-label="Histogram of ([^:]+):[^"]*limit 0.3"', page(lake, tmp_path, policy=policy))

    assert limits(Policy()) == []
    assert limits(Policy(max_text_share=0.3, max_occlusion=0.3)) == ["Text", "Occlusion"]


def test_of_very_many_clips_a_fair_sample_is_drawn(lake, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(judged, "MOST_SCORED", 2)
    text = text_of(page(lake, tmp_path))
    assert "A random sample of 2 clips by score" in text or "A random sample of 1 clip by score" in text


def test_the_newest_release_is_shown(lake, tmp_path) -> None:
    pair = {
        "pair_id": "pair", "kind": "same_view", "driving_clip_id": "clip left", "driving_start": 0,
        "target_clip_id": "clip left", "target_start": 0, "num_frames": 9, "frame_step": 2,
        "latent_id": "none", "source_kind": "unreal",
        "capture_id": "take", "split": "train", "weight": 1.0, "work_key": "pairs",
    }  # fmt: skip
    copy = Lake(tmp_path / "lake")
    run(copy, "sources", {"sources": [source_row("left")]}, 1)
    run(copy, "clips", {"clips": [clip_row("left", video_sha256=None, track=None)]}, 1)
    run(copy, "pairs", {"pairs": [pair]}, 1)
    create_release(copy, "older")
    create_release(copy, "first")
    approve_release(copy, "first@1", HOSTILE)
    text = text_of(page(copy, tmp_path / "out"))
    assert "newest release first@1" in text and "1 training pair from 1 capture" in text and "CC0-1.0 1" in text


@pytest.mark.parametrize("window", [{"frame_step": 2}, {"frame_step": 1, "fps": float(FPS) / 2}], ids=["step", "rate"])
def test_a_generated_clip_is_shown_beside_what_it_was_made_of(window, lake, tmp_path) -> None:
    Image.new("RGB", (40, 40), (200, 0, 0)).save(tmp_path / "reference.png")
    (tmp_path / "driving.mp4").write_bytes(film())
    (tmp_path / "clip.mp4").write_bytes(film())
    (tmp_path / "truth.mp4").write_bytes(film(slower=2))
    record = {"reference": "reference.png", "driving": "driving.mp4", "truth": "truth.mp4", "prompt": HOSTILE}
    record["facts"] = {"window": {"num_frames": 9, **window}}
    (tmp_path / "clip.json").write_text(json.dumps(record))
    out = tmp_path / "out"
    source = page(lake, out, generated=tmp_path / "clip.mp4")
    videos = re.findall(r'<video autoplay[^>]* src="([^"]+)"', source)
    driving, whole, truth = (decode(out / video).astype(int) for video in videos)
    assert np.array_equal(truth, decode(film(slower=2)))
    assert len(whole) == FRAMES
    film_frames = decode(film()).astype(int)
    followed = [int(np.abs(film_frames - frame).mean(axis=(1, 2, 3)).argmin()) for frame in driving]
    assert followed == list(range(0, 17, 2))  # the window of the record
    assert source.count("<video autoplay") == 3
    assert "Reference image" in source and HOSTILE in text_of(source)


def test_what_is_missing_of_a_generated_clip_is_said(lake, tmp_path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"broken")
    (tmp_path / "clip.json").write_text('{"reference": "nowhere.png"}')
    text = text_of(page(lake, tmp_path / "out", generated=tmp_path / "clip.mp4"))
    assert "generated clip: not a readable video" in text and "reference image: [Errno 2]" in text
