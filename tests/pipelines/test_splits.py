"""Nothing of the test split is seen in training."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pipelines.splits import linked_groups, splits

FILES = st.integers(0, 12).map(lambda n: f"file {n}" if n else None)
PAIRS = st.lists(
    st.tuples(
        st.integers(0, 9).map(str),  # capture
        st.integers(0, 6).map(lambda n: f"s{n}" if n else None),  # subject
        FILES,
        FILES,
        st.sampled_from(["same_view", "cross_view", "moving_camera"]),
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
    for pair, side in zip(pairs, splits(pairs, contents, share), strict=True):
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
    trained = {pair["kind"] for pair, side in zip(pairs, sides, strict=True) if side == "train"}
    assert trained == {pair["kind"] for pair in pairs}


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
    sides = dict(zip((p["target_clip_id"][1:] for p in pairs), splits(pairs, contents, share, copies), strict=True))
    assert all(sides[str(a)] == sides[str(b)] for a, b in linked if {str(a), str(b)} <= set(sides))


def test_a_copy_that_is_in_no_pair_links_two_that_are() -> None:
    drawn = [("1", None, "x", "x", "same_view"), ("2", None, "y", "y", "same_view")]
    assert linked_groups(*rows(drawn), [("d0", "left out"), ("t1", "left out")]) == ["1", "1"]
