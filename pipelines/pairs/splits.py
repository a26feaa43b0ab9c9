"""Which pairs are held out for testing: whole groups, so that no person, performance or video file is on both sides."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from opendimo.storage_schemas.ids import stable_id

Row = dict[str, Any]
Copies = Iterable[tuple[str, str]]
"""Clips with footage in common, mirrored or not."""
MOST_WANTED = ("cross_view", "moving_camera", "same_view")
"""Kinds of pairs by how much a test of them tells about what 3DiMo is for."""


def splits(
    pairs: Sequence[Row], contents: Mapping[str, str | None], share: float, copies: Copies = ()
) -> list[tuple[str, str]]:
    """The group and the side (`train` or `test`) of each pair. `contents` maps clips to the hash of the file that they
    were cut from."""
    groups = linked_groups(pairs, contents, copies)
    test = held_out_groups(groups, [pair["kind"] for pair in pairs], share)
    return [(group, "test" if group in test else "train") for group in groups]


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


def held_out_groups(groups: Sequence[str], kinds: Sequence[str], share: float) -> set[str]:
    """The groups that are held out for testing. `groups` and `kinds` are those of each pair.

    The hash of its name gives each group a number in [0, 1). Held out is, of each kind of pair, the lowest group that
    can be spared, and besides every group below `share` that can be. A group cannot be spared where it is the last that
    can train a kind. With `share` 0 nothing is held out.

    So a group keeps its side while others come and go, but for two cases. The lowest group of a kind, where it is at
    `share` or above, trains again once a lower one comes. And a group that could not be spared can be once another with
    its kinds comes, and the other way round. In a large release the lowest groups are below `share` and every kind has
    many groups, so neither happens.
    """
    kinds_of: dict[str, set[str]] = defaultdict(set)
    for group, kind in zip(groups, kinds, strict=True):
        kinds_of[group].add(kind)
    chance = {group: int(stable_id("split", group)[:8], 16) / 2**32 for group in kinds_of}
    lowest_first = sorted(kinds_of, key=lambda group: (chance[group], group))
    training = Counter(kind for group in kinds_of for kind in kinds_of[group])  # groups that can train each kind
    test: set[str] = set()

    def spared(group: str) -> bool:
        return all(training[kind] > 1 for kind in kinds_of[group])

    def hold_out(group: str) -> None:
        training.subtract(kinds_of[group])
        test.add(group)

    for kind in MOST_WANTED if share > 0 else ():
        having = [group for group in lowest_first if kind in kinds_of[group]]
        if not test.intersection(having) and (lowest := next(filter(spared, having), None)):
            hold_out(lowest)
    for group in lowest_first:
        if chance[group] < share and group not in test and spared(group):
            hold_out(group)
    return test
