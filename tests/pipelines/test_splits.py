"""Splits: nothing in the test split occurs in training."""

from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opendimo.pipelines.captions.window import STILL
from opendimo.pipelines.pairs.splits import held_out_groups, linked_groups, splits
from opendimo.pipelines.pairs.stage import PairsConfig
from opendimo.pipelines.studio.script import programme

KINDS = ("same_view", "cross_view", "moving_camera")
FILES = st.integers(0, 12).map(lambda n: f"file {n}" if n else None)
PAIRS = st.lists(
    st.tuples(
        st.integers(0, 9).map(str),  # capture
        st.integers(0, 6).map(lambda n: f"s{n}" if n else None),  # subject
        FILES,
        FILES,
        st.sampled_from(KINDS),
    ),
    max_size=40,
)


def rows(drawn: list[tuple[Any, ...]]) -> tuple[list[dict[str, Any]], dict[str, str | None]]:
    pairs, contents = [], {}
    for k, (capture, subject, driving, target, kind) in enumerate(drawn):
        clips = {"driving_clip_id": f"d{k}", "target_clip_id": f"t{k}"}
        pairs.append({"capture_id": capture, "subject": subject, "kind": kind, **clips})
        contents |= {f"d{k}": driving, f"t{k}": target}
    return pairs, contents


@given(PAIRS, st.floats(0, 1))
def test_splits_never_leak(drawn: list[tuple[Any, ...]], share: float) -> None:
    pairs, contents = rows(drawn)
    sides: dict[tuple[str, str], set[str]] = {}
    for pair, (_, side) in zip(pairs, splits(pairs, contents, share), strict=True):
        seen = [("capture", pair["capture_id"]), ("subject", pair["subject"])]
        seen += [("file", contents[pair[f"{which}_clip_id"]]) for which in ("driving", "target")]
        for what, value in seen:
            if value is not None:
                sides.setdefault((what, value), set()).add(side)
    assert all(len(found) == 1 for found in sides.values())


@given(PAIRS, st.floats(0, 1))
def test_every_kind_of_pair_can_be_trained(drawn: list[tuple[Any, ...]], share: float) -> None:
    pairs, contents = rows(drawn)
    sides = splits(pairs, contents, share)
    trained = {pair["kind"] for pair, (_, side) in zip(pairs, sides, strict=True) if side == "train"}
    assert trained == {pair["kind"] for pair in pairs}


GROUPS = st.lists(st.tuples(st.integers(0, 9).map(lambda n: f"g{n}"), st.sampled_from(KINDS)), max_size=30)
"""Pairs as (group, kind)."""


def sides(pairs: list[tuple[str, str]], share: float) -> set[str]:
    return held_out_groups([group for group, _ in pairs], [kind for _, kind in pairs], share)


@given(GROUPS, st.floats(0.001, 1))
def test_each_kind_is_held_out_unless_all_its_groups_are_the_last_that_train_a_kind(
    pairs: list[tuple[str, str]], share: float
) -> None:
    test = sides(pairs, share)
    for kind in {kind for group, kind in pairs if group in test} ^ {kind for _, kind in pairs}:
        for group in {g for g, k in pairs if k == kind}:
            of_group = {k for g, k in pairs if g == group}
            assert any({g for g, k in pairs if k == other} - test == {group} for other in of_group)


@given(st.integers(2, 9), st.floats(0.001, 0.1))
def test_two_groups_that_have_every_kind_are_enough_to_hold_one_out(groups: int, share: float) -> None:
    test = sides([(f"g{n}", kind) for n in range(groups) for kind in KINDS], share)
    assert 1 <= len(test) < groups


def test_nothing_is_held_out_where_the_share_is_0() -> None:
    assert sides([(f"g{n}", kind) for n in range(9) for kind in KINDS], 0) == set()


def test_of_the_demo_every_kind_is_held_out_and_trained() -> None:
    pairs = []
    for take in programme(0, 17):
        for view in take.views:
            other = "cross_view" if set(view.terms) <= set(STILL) else "moving_camera"
            pairs += [(person.name, kind) for person in take.people for kind in ("same_view", other)[: len(take.views)]]
    test = sides(pairs, PairsConfig("vae").test_share)
    assert {kind for group, kind in pairs if group in test} == {kind for group, kind in pairs if group not in test}
    assert {kind for group, kind in pairs if group in test} == set(KINDS)


@pytest.mark.parametrize("names", list(permutations("abc")))
def test_cross_view_pairs_are_the_first_to_be_held_out(names: tuple[str, ...]) -> None:
    """If the first group were held out for its moving camera, the second would be the last training group of that kind;
    the third is the only one with single views."""
    has = (("moving_camera",), ("moving_camera", "cross_view"), ("cross_view", "same_view"))
    pairs = [(group, kind) for group, kinds in zip(names, has, strict=True) for kind in kinds]
    assert sides(pairs, 0.001) == {names[1]}


SOME = st.sets(st.integers(0, 400), min_size=2)


@given(SOME, SOME, st.floats(0.01, 0.5))
def test_at_most_one_group_a_side_changes_when_others_come(few: set[int], more: set[int], share: float) -> None:
    before, after = (sides([(f"g{n}", kind) for n in some for kind in KINDS], share) for some in (few, few | more))
    assert len(before - after) <= 1 and len((after - before) & {f"g{n}" for n in few}) <= 1


@given(PAIRS, st.randoms())
def test_the_order_of_pairs_does_not_matter(drawn: list[tuple[Any, ...]], random: Any) -> None:
    pairs, contents = rows(drawn)
    before = dict(zip((p["driving_clip_id"] for p in pairs), linked_groups(pairs, contents), strict=True))
    random.shuffle(pairs)
    assert before == dict(zip((p["driving_clip_id"] for p in pairs), linked_groups(pairs, contents), strict=True))


def test_a_file_links_the_captures_that_were_cut_from_it() -> None:
    drawn = [
        ("1", "ann", "film", "film", "same_view"),
        ("2", "bob", "film", "film", "same_view"),
        ("3", None, "x", "x", "same_view"),
    ]
    assert linked_groups(*rows(drawn)) == ["ann", "ann", "3"]


@given(PAIRS, st.lists(st.tuples(st.integers(0, 39), st.integers(0, 39)), max_size=9), st.floats(0, 1))
def test_copies_are_on_one_side(drawn: list[tuple[Any, ...]], linked: list[tuple[int, int]], share: float) -> None:
    pairs, contents = rows(drawn)
    copies = [(f"t{a}", f"d{b}") for a, b in linked]
    side = dict(zip((p["target_clip_id"][1:] for p in pairs), splits(pairs, contents, share, copies), strict=True))
    assert all(side[str(a)] == side[str(b)] for a, b in linked if {str(a), str(b)} <= set(side))


def test_a_copy_that_is_in_no_pair_links_two_that_are() -> None:
    drawn = [("1", None, "x", "x", "same_view"), ("2", None, "y", "y", "same_view")]
    assert linked_groups(*rows(drawn), [("d0", "left out"), ("t1", "left out")]) == ["1", "1"]
