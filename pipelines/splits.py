"""Who is kept for testing: whole groups, so that no person, performance or video file is on both sides."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from storage_schemas.ids import stable_id

Row = dict[str, Any]
Copies = Iterable[tuple[str, str]]
"""Clips with footage in common, mirrored or not."""


def splits(pairs: Sequence[Row], contents: Mapping[str, str | None], share: float, copies: Copies = ()) -> list[str]:
    """`train` or `test` for each pair. `contents` maps clips to the hash of the file that they were cut from."""
    groups = linked_groups(pairs, contents, copies)
    test = test_groups(groups, [pair["kind"] for pair in pairs], share)
    return ["test" if group in test else "train" for group in groups]


def linked_groups(pairs: Sequence[Row], contents: Mapping[str, str | None], copies: Copies = ()) -> list[str]:
    """The group of each pair. Pairs that share a subject, a capture, a file or footage are in one, directly or through
    others.

    A group is named after the first of its subjects (of unknown ones: captures), so it keeps its name, and with it its
    side, while others come and go.
    """
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def root(node: tuple[str, str]) -> tuple[str, str]:
        while (above := parent.setdefault(node, node)) != node:
            parent[node] = parent[above]
            node = above
        return node

    for a, b in copies:
        parent[root(("clip", a))] = root(("clip", b))
    for pair in pairs:
        first = root(("capture", pair["capture_id"]))
        clips = [pair[f"{side}_clip_id"] for side in ("driving", "target")]
        shared = [(what, name) for clip in clips for what, name in (("clip", clip), ("file", contents.get(clip)))]
        for node in (("subject", pair["subject"]), *shared):
            if node[1]:
                parent[root((node[0], str(node[1])))] = first
    names: dict[tuple[str, str], str] = {}
    roots = [root(("capture", pair["capture_id"])) for pair in pairs]
    for node, pair in zip(roots, pairs, strict=True):
        name = pair["subject"] or pair["capture_id"]
        names[node] = min(name, names.get(node, name))
    return [names[node] for node in roots]


def test_groups(groups: Sequence[str], kinds: Sequence[str], share: float) -> set[str]:
    """The groups kept for testing: about `share` of them, by hash, but never the last one that can train a kind of
    pair. `groups` and `kinds` are those of each pair."""
    having: dict[str, set[str]] = defaultdict(set)  # kind -> groups that have it
    for group, kind in zip(groups, kinds, strict=True):
        having[kind].add(group)
    chance = {group: int(stable_id("split", group)[:8], 16) / 2**32 for group in set(groups)}
    test: set[str] = set()
    for group in sorted((g for g in chance if chance[g] < share), key=lambda g: chance[g]):
        if all(members - test - {group} for members in having.values() if group in members):
            test.add(group)
    return test
