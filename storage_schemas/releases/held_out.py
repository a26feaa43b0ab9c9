"""Report the held-out test pairs of a release by kind, and why a kind has none."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from opendimo.storage_schemas.releases.policy import KINDS
from opendimo.storage_schemas.releases.selection import Flags, Selection, codes, count


def held_out(chosen: Selection) -> dict[str, Any]:
    """Return `pairs`: number of held-out pairs; `by_kind`: number by kind; `why_not`: reason for each kind without.

    A release without re-rendered videos needs no reason for having no `resynthesised` pairs.
    """
    test = _is(chosen.split, "test")
    by_kind = count(chosen.kind, chosen.kept & test)
    kinds = [kind for kind in KINDS if kind != "resynthesised" or _is(chosen.kind, kind).any()]
    why_not = {kind: _why_not(chosen, kind, test) for kind in kinds if kind not in by_kind}
    return {"pairs": int((chosen.kept & test).sum()), "by_kind": by_kind, "why_not": why_not}


def _why_not(chosen: Selection, kind: str, test: Flags) -> str:
    of_kind = _is(chosen.kind, kind)
    if not of_kind.any():
        return "no pair of this kind can be made of the clips"
    if (of_kind & test).any() or not (of_kind & chosen.kept).any():
        dropped = chosen.dropped_among(of_kind & test if (of_kind & test).any() else of_kind)
        return f"the policy left them out: {', '.join(f'{reason} {n}' for reason, n in dropped.items())}"
    groups = codes(chosen.group)
    kind_groups = np.unique(groups[of_kind & chosen.kept])
    if kind_groups[0] < 0:
        return "the pairs were made before groups were stored: make them again with `dimo encode`"
    names = chosen.group.dictionary.take(kind_groups[:1]).to_pylist()
    if len(kind_groups) == 1:
        return f"only one group has any ({names[0]}), and it is needed for training"
    if np.isin(kind_groups, _needed(chosen, groups)).all():
        return f"each of the {len(kind_groups)} groups that have any is the last one that can train some kind"
    return f"of {len(kind_groups)} groups that have any none was held out: the share for testing was 0"


def _needed(chosen: Selection, groups: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the groups that are the only ones with pairs of some kind."""
    kinds = codes(chosen.kind)
    only_groups: list[int] = []
    for kind in np.unique(kinds[chosen.kept]):
        kind_groups = np.unique(groups[chosen.kept & (kinds == kind)])
        only_groups.extend(kind_groups if len(kind_groups) == 1 else [])
    return np.array(only_groups, np.int32)


def _is(values: Any, name: str) -> Flags:
    names = values.dictionary.to_pylist()
    return codes(values) == (names.index(name) if name in names else -2)
