"""Filtered duplicates: independent of the order of clips, and idempotent on the clips that are kept."""

from pathlib import Path
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from opendimo.pipelines.quality.policy import Policy
from opendimo.pipelines.quality.repeats import left_out, links, repeats
from opendimo.storage_schemas.lake.lake import Lake

FRAMES = 100
Shown = dict[str, list[tuple[str, int, int]]]
EDGES = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, FRAMES), st.integers(0, FRAMES)), max_size=40
)


def shown_by(edges: list[tuple[int, int, int, int]]) -> Shown:
    """Return the evidence of edges (clip, clip, start, end); clips with lower numbers are better."""
    shown: Shown = {}
    for a, b, start, end in edges:
        if a != b:
            shown.setdefault(f"c{max(a, b)}", []).append((f"c{min(a, b)}", min(start, end), max(start, end)))
    return shown


def out_of(shown: Shown) -> set[str]:
    return left_out(shown, dict.fromkeys(shown, FRAMES), 0.8)


@given(EDGES, st.randoms())
def test_the_order_of_clips_does_not_matter(edges: list[Any], random: Any) -> None:
    shuffled = edges.copy()
    random.shuffle(shuffled)
    assert out_of(shown_by(edges)) == out_of(shown_by(shuffled))


@given(EDGES)
def test_what_was_kept_is_kept_when_asked_again(edges: list[Any]) -> None:
    shown = shown_by(edges)
    out = out_of(shown)
    again = {clip: [by for by in better if by[0] not in out] for clip, better in shown.items() if clip not in out}
    assert out_of(again) == set()


@given(EDGES)
def test_everything_that_is_left_out_is_shown_by_what_is_kept(edges: list[Any]) -> None:
    shown = shown_by(edges)
    out = out_of(shown)
    for clip, better in shown.items():
        kept = {frame for by, start, end in better if by not in out for frame in range(start, end)}
        assert (clip in out) == (len(kept) >= 0.8 * FRAMES)


def test_a_clip_across_two_windows_of_a_longer_video_is_left_out() -> None:
    assert out_of({"copy": [("window 0", 0, 55), ("window 1", 50, 100)]}) == {"copy"}
    assert out_of({"copy": [("window 0", 0, 55), ("window 1", 0, 55)]}) == set()


def row(clip_id: str, other: str | None, key: str, **columns: Any) -> dict[str, Any]:
    found = {"representative_id": min(clip_id, other), "kind": "copy", "mirrored": False} if other else {}
    numbers = {"offset_frames": 0, "start_frame": 0, "end_frame": 100, "share": 1.0, "similarity": 1.0, "distance": 0.0}
    facts = {"duplicate_id": f"{clip_id} {other} {key}", "clip_id": clip_id, "other_clip_id": other, "work_key": key}
    return facts | (found | numbers if other else {}) | columns


def asked(lake: Lake, clips: list[str], policy: Policy | None = None) -> list[str]:
    table = pa.table({"clip_id": clips, "frames": [100] * len(clips)})
    return list(repeats(lake, table, policy or Policy()).to_pylist())


def test_thresholds_are_those_of_the_policy(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    rows = [row("b", "a", "1", similarity=0.85), row("c", "a", "2", end_frame=70), row("d", "a", "3", mirrored=True)]
    lake.append("run", {"duplicates": [*rows, row("e", "a", "4", distance=9.0)]})
    clips = ["a", "b", "c", "d", "e"]
    assert asked(lake, clips) == []
    assert asked(lake, clips, Policy(duplicate_similarity=0.8)) == ["b"]
    assert asked(lake, clips, Policy(duplicate_share=0.6)) == ["c"]
    assert asked(lake, clips, Policy(keep_mirrored=False)) == ["d"]
    assert asked(lake, clips, Policy(duplicate_distance=10)) == ["e"]


def test_without_the_better_clip_the_next_best_is_kept(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.append("run", {"duplicates": [row("b", "a", "1"), row("c", "a", "2"), row("c", "b", "2")]})
    assert asked(lake, ["a", "b", "c"]) == ["b", "c"]
    assert asked(lake, ["b", "c"]) == ["c"]


def test_a_later_comparison_replaces_the_earlier_one(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.append("first", {"duplicates": [row("b", "a", "old")]})
    assert asked(lake, ["a", "b"]) == ["b"]
    lake.append("second", {"duplicates": [row("b", None, "new")]})
    assert asked(lake, ["a", "b"]) == []
    assert lake.dataset("duplicates").count_rows() == 2


def test_links_are_of_the_clips_asked_for_mirrored_or_not(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.append("run", {"duplicates": [row("b", "a", "1", mirrored=True), row("c", "a", "2")]})
    assert links(lake, pa.array(["a", "b"]), []).to_pylist() == [{"clip_id": "b", "other_clip_id": "a"}]
