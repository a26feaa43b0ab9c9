"""Split pairs into training and test: whole groups, so that no person, performance or video file is on both sides."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from opendimo.storage_schemas.ids import stable_id
from opendimo.storage_schemas.rows import Row

Copies = Iterable[tuple[str, str]]
"""Pairs of clips that share footage, mirrored or not."""
MOST_WANTED = ("cross_view", "moving_camera", "resynthesised", "same_view")
"""Kinds of pairs, the most informative for a test of 3DiMo's purpose first."""


def splits(
    pairs: Sequence[Row], contents: Mapping[str, str | None], share: float, copies: Copies = ()
) -> list[tuple[str, str]]:
    """Return the group and the side (`train` or `test`) of each pair.

    `contents` maps each clip to the hash of the file that it was cut from.
    """
    groups = linked_groups(pairs, contents, copies)
    test = held_out_groups(groups, [pair["kind"] for pair in pairs], share)
    return [(group, "test" if group in test else "train") for group in groups]


def linked_groups(pairs: Sequence[Row], contents: Mapping[str, str | None], copies: Copies = ()) -> list[str]:
    """Return the group of each pair: connected components of pairs that share a subject, a capture, a file or footage.

    A group is named after the alphabetically first of its subjects (captures, for unknown subjects). So it keeps its
    name, and thus its side, when other groups are added or removed.
    """
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def root(node: tuple[str, str]) -> tuple[str, str]:
        while (node_parent := parent.setdefault(node, node)) != node:
            parent[node] = parent[node_parent]
            node = node_parent
        return node

    for a, b in copies:
        parent[root(("clip", a))] = root(("clip", b))
    for pair in pairs:
        first = root(("capture", pair["capture_id"]))
        clips = [pair[f"{side}_clip_id"] for side in ("driving", "target")]
        clip_nodes = [(kind, name) for clip in clips for kind, name in (("clip", clip), ("file", contents.get(clip)))]
        for node in (("subject", pair["subject"]), *clip_nodes):
            if node[1]:
                parent[root((node[0], str(node[1])))] = first
    names: dict[tuple[str, str], str] = {}
    roots = [root(("capture", pair["capture_id"])) for pair in pairs]
    for node, pair in zip(roots, pairs, strict=True):
        name = pair["subject"] or pair["capture_id"]
        names[node] = min(name, names.get(node, name))
    return [names[node] for node in roots]


def held_out_groups(groups: Sequence[str], kinds: Sequence[str], share: float) -> set[str]:
    """Return the groups to hold out for testing. `groups` and `kinds` are the group and the kind of each pair.

    The name of each group is hashed to a number in [0, 1). For each kind of pair, the available group with the lowest
    number is held out; so is every available group with a number below `share`. A group is not available if it is the
    last training group of one of its kinds. If `share` is 0, nothing is held out.

    A group keeps its side when other groups are added or removed, with two exceptions. First, the lowest group of a
    kind, if its number is not below `share`, returns to training when a lower group is added. Second, a group becomes
    available when another group with its kinds is added, and unavailable when that is removed. In a large release the
    lowest groups are below `share` and every kind has many groups, so neither happens.
    """
    kinds_of: dict[str, set[str]] = defaultdict(set)
    for group, kind in zip(groups, kinds, strict=True):
        kinds_of[group].add(kind)
    hash_value = {group: int(stable_id("split", group)[:8], 16) / 2**32 for group in kinds_of}
    lowest_first = sorted(kinds_of, key=lambda group: (hash_value[group], group))
    training = Counter(kind for group in kinds_of for kind in kinds_of[group])  # training groups per kind
    test: set[str] = set()

    def is_available(group: str) -> bool:
        return all(training[kind] > 1 for kind in kinds_of[group])

    def hold_out(group: str) -> None:
        training.subtract(kinds_of[group])
        test.add(group)

    for kind in MOST_WANTED if share > 0 else ():
        candidates = [group for group in lowest_first if kind in kinds_of[group]]
        if not test.intersection(candidates) and (lowest := next(filter(is_available, candidates), None)):
            hold_out(lowest)
    for group in lowest_first:
        if hash_value[group] < share and group not in test and is_available(group):
            hold_out(group)
    return test
