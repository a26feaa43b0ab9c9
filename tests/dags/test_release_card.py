"""Test the tables of a release manifest."""

from typing import Any

from opendimo.dags.release_card import markdown, sections

HELD_OUT = {"pairs": 3, "by_kind": {"same_view": 3}, "why_not": {"cross_view": "only one group has any"}}


def held_out(manifest: dict[str, Any]) -> list[Any]:
    return [rows for title, _, rows in sections(manifest) if title == "Held-out pairs"]


def test_the_card_says_what_is_held_out_and_why_nothing_is() -> None:
    manifest = {"pairs": 9, "held_out": HELD_OUT}
    assert held_out(manifest) == [[("cross_view", 0, "only one group has any"), ("same_view", 3, "")]]
    assert "| cross_view | 0 | only one group has any |" in markdown("demo@1", "hash", "usable", manifest)


def test_a_release_of_before_says_nothing_of_it() -> None:
    assert held_out({"pairs": 9}) == []
