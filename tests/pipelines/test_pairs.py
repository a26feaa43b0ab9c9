"""Pairs: which clips are paired, and which are held out for testing."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opendimo.pipelines.cameras.terms import Term
from opendimo.pipelines.engine.revisions import current_captions
from opendimo.pipelines.engine.stage import Work
from opendimo.pipelines.pairs.stage import Inputs, PairsConfig, PairsStage, build_pairs, gather, plan
from opendimo.pipelines.quality.policy import Policy
from opendimo.storage_schemas.lake.lake import Lake
from tests import rows

CONFIG = PairsConfig("vae", test_share=0.0)
SPAN = 17


def clip(clip_id: str, capture: str, view: str, **changes: Any) -> dict[str, Any]:
    track = np.tile(np.float32([10, 10, 50, 90]), (60, 1))
    facts = {"kind": "multiview", "subject": None, "start_frame": 0, "frames": 60, "fps_num": 30, "fps_den": 1}
    ids = {"clip_id": clip_id, "capture_id": capture, "view": view, "content_sha256": f"file of {clip_id}"}
    facts["resynthesis_of"] = None
    return {**ids, "track": track, **facts, **changes}


def window(clip_id: str, start: int = 0) -> dict[str, Any]:
    return {"clip_id": clip_id, "start_frame": start, "latent_id": f"{clip_id}@{start}", **asdict(CONFIG.window)}


def inputs(clips: list[dict[str, Any]], windows: list[dict[str, Any]], **changes: Any) -> Inputs:
    captures = {c["capture_id"]: {"subject": None, "sync_method": "synchronised"} for c in clips}
    terms = {c["clip_id"]: [term("static")] for c in clips}
    found = {"poses": {}, "terms": terms, "captures": captures, **changes}
    return Inputs(clips={c["clip_id"]: c for c in clips}, windows=windows, **found)


def term(name: str, start: int = 0, end: int = 60) -> Term:
    return Term(start, end, name, "slow")


def kinds(found: Inputs, config: PairsConfig = CONFIG) -> set[tuple[str, str, str]]:
    return {(p["kind"], p["driving_clip_id"], p["target_clip_id"]) for p in build_pairs(found, config)}


RIG = [clip("a", "take", "left"), clip("b", "take", "right")]


def test_every_view_drives_itself_and_every_other() -> None:
    assert kinds(inputs(RIG, [window("a"), window("b")])) == {
        ("same_view", "a", "a"), ("same_view", "b", "b"), ("cross_view", "a", "b"), ("cross_view", "b", "a"),
    }  # fmt: skip


def test_a_target_whose_camera_moves_within_the_window_makes_a_moving_camera_pair() -> None:
    terms = {"a": [term("static", 0, 17), term("arc_left", 17, 60)], "b": [term("shake")]}
    found = inputs(RIG, [window("a"), window("a", SPAN), window("b")], terms=terms)
    cross = {
        (p["target_clip_id"], p["target_start"]): p["kind"]
        for p in build_pairs(found, CONFIG)
        if p["kind"] != "same_view"
    }
    assert cross == {("a", 0): "cross_view", ("a", SPAN): "moving_camera", ("b", 0): "cross_view"}


def test_views_are_matched_in_source_time() -> None:
    late = [clip("a", "take", "left", start_frame=10), clip("b", "take", "right", start_frame=4)]
    [pair] = [p for p in build_pairs(inputs(late, [window("a", 7)]), CONFIG) if p["kind"] == "cross_view"]
    assert (pair["target_start"], pair["driving_start"]) == (7, 13)  # both source frame 17


def test_a_rerendering_drives_its_original_and_is_never_a_target() -> None:
    rendered = clip("r", "take", "resynthesis r.mp4", resynthesis_of="a.mp4", start_frame=4)
    original = clip("a", "take", "main", start_frame=10)
    captures = {"take": {"subject": None, "sync_method": "single"}}
    found = inputs([original, rendered], [window("a", 7), window("r")], captures=captures)
    assert kinds(found) == {("same_view", "a", "a"), ("resynthesised", "r", "a")}
    [pair] = [p for p in build_pairs(found, CONFIG) if p["kind"] == "resynthesised"]
    assert (pair["target_start"], pair["driving_start"]) == (7, 13)  # both source frame 17


def test_a_rerendering_at_another_rate_drives_nothing() -> None:
    rendered = clip("r", "take", "resynthesis r.mp4", resynthesis_of="a.mp4", fps_num=24)
    found = inputs([clip("a", "take", "main"), rendered], [window("a")])
    assert kinds(found) == {("same_view", "a", "a")}


@pytest.mark.parametrize(
    "other",
    [
        clip("b", "other take", "right"),
        clip("b", "take", "left"),  # another shot of the same camera
        clip("b", "take", "right", fps_num=60),
        clip("b", "take", "right", frames=SPAN - 1),
        clip("b", "take", "right", start_frame=1),
        clip("b", "take", "right", track=np.full((60, 4), np.nan, np.float32)),
    ],
)
def test_what_cannot_be_matched_makes_no_pair_of_two_views(other: dict[str, Any]) -> None:
    assert kinds(inputs([RIG[0], other], [window("a")])) == {("same_view", "a", "a")}


def test_views_without_a_common_clock_make_no_pair() -> None:
    captures = {"take": {"subject": None, "sync_method": "single"}}
    assert kinds(inputs(RIG, [window("a")], captures=captures)) == {("same_view", "a", "a")}


def test_the_pose_and_its_weight_are_those_of_the_driver() -> None:
    poses = {"b": {"pose_id": "pose of b", "clip_id": "b", "weight": 0.4}}
    pairs = {p["kind"]: p for p in build_pairs(inputs(RIG, [window("a")], poses=poses), CONFIG)}
    assert (pairs["cross_view"]["pose_id"], pairs["cross_view"]["weight"]) == ("pose of b", 0.4)
    assert (pairs["same_view"]["pose_id"], pairs["same_view"]["weight"]) == (None, 0.0)


def many(subjects: int, takes: int = 2) -> Inputs:
    clips = [clip(f"{c}{v}", str(c), v) for c in range(subjects * takes) for v in "lr"]
    captures = {str(c): {"subject": f"s{c % subjects}", "sync_method": "rendered"} for c in range(subjects * takes)}
    return inputs(clips, [window(c["clip_id"]) for c in clips], captures=captures)


def test_no_subject_is_on_both_sides() -> None:
    pairs = build_pairs(many(100), PairsConfig("vae", test_share=0.2))
    sides = {s: {p["subject"] for p in pairs if p["split"] == s} for s in ("train", "test")}
    assert not sides["train"] & sides["test"]
    assert 10 <= len(sides["test"]) <= 30


def test_a_subject_keeps_its_side_when_others_come() -> None:
    few, more = (
        {p["subject"]: p["split"] for p in build_pairs(many(n), PairsConfig("vae", test_share=0.2))} for n in (50, 100)
    )
    assert all(more[subject] == side for subject, side in few.items())


def test_the_last_capture_of_a_kind_of_pair_trains() -> None:
    pairs = build_pairs(many(3), PairsConfig("vae", test_share=1.0))
    assert {p["kind"] for p in pairs if p["split"] == "train"} == {"same_view", "cross_view"}
    assert any(p["split"] == "test" for p in pairs)


def test_windows_count_whose_text_is_of_the_current_caption(tmp_path: Path) -> None:
    """A clip was captioned three times, the third time as the first. Rows of schema 3 are ignored, because their text
    is that of the whole clip."""
    lake, stage = Lake(tmp_path), PairsStage(str(tmp_path), CONFIG)
    track = np.float32([[0, 0, 9, 9]] * SPAN)
    clip = rows.clip("c", track=track, frames=SPAN, person_height=0.7, people=1.0, exposure=0.5)
    lake.append("clips", {"clips": [clip]})

    def encode(name: str, caption_hash: str | None) -> None:
        facts = {"vae": "vae", **asdict(CONFIG.window), "caption_hash": caption_hash}
        lake.append(f"latents {name}", {"latents": [rows.latent("c", name, **facts)]})

    def caption(name: str, term: str) -> str:
        lake.append(f"caption {name}", {"captions": [rows.caption("c", term, caption_id=name)]})
        return current_captions(lake, [])["caption_hash"].to_pylist()[0]

    def current() -> list[str]:
        return [window["latent_id"] for window in gather(lake, stage.config, Policy()).windows]

    encode("of schema 3", None)
    pans = caption("one", "pan_left")
    assert current() == [] and len(plan(lake, stage, Policy())) == 0
    encode("pans", pans)
    assert current() == ["pans"]
    encode("stands", caption("two", "static"))
    assert current() == ["stands"]
    assert caption("three", "pan_left") == pans
    assert current() == ["pans"]


def test_without_latents_there_is_nothing_to_plan_and_an_empty_set_is_a_reject(tmp_path: Any) -> None:
    lake = Lake(tmp_path)
    stage = PairsStage(lake.uri, CONFIG)
    assert len(plan(lake, stage, Policy())) == 0
    [reject] = stage.run([Work("key", "pairs", "pairs", Policy())]).rejects
    assert reject.error_class == "data" and "no pair" in reject.message
