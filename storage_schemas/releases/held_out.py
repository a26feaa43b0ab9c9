"""Which kinds of pairs a release holds out for testing, and why it holds out none of a kind."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from opendimo.storage_schemas.releases.policy import KINDS
from opendimo.storage_schemas.releases.selection import Flags, Selection, codes, count


def held_out(chosen: Selection) -> dict[str, Any]:
    """`pairs`: how many are held out; `by_kind`: of each kind; `why_not`: of every other kind, why none is."""
    test = _is(chosen.split, "test")
    by_kind = count(chosen.kind, chosen.kept & test)
    why_not = {kind: _why_not(chosen, kind, test) for kind in KINDS if kind not in by_kind}
    return {"pairs": int((chosen.kept & test).sum()), "by_kind": by_kind, "why_not": why_not}


def _why_not(chosen: Selection, kind: str, test: Flags) -> str:
    of_kind = _is(chosen.kind, kind)
    if not of_kind.any():
        return "no pair of this kind can be made of the clips"
    if (of_kind & test).any() or not (of_kind & chosen.kept).any():
        dropped = chosen.dropped_among(of_kind & test if (of_kind & test).any() else of_kind)
        return f"the policy left them out: {', '.join(f'{reason} {n}' for reason, n in dropped.items())}"
    groups = codes(chosen.group)
    having = np.unique(groups[of_kind & chosen.kept])
    if having[0] < 0:
        return "the pairs were made before groups were stored: make them again with `dimo encode`"
    names = chosen.group.dictionary.take(having[:1]).to_pylist()
    if len(having) == 1:
        return f"only one group has any ({names[0]}), and it is needed for training"
    if np.isin(having, _needed(chosen, groups)).all():
        return f"each of the {len(having)} groups that have any is the last one that can train some kind"
    return f"of {len(having)} groups that have any none was held out: the share for testing was 0"


def _needed(chosen: Selection, groups: NDArray[np.int32]) -> NDArray[np.int32]:
    """Groups that are the only ones with a kind of pair."""
    kinds = codes(chosen.kind)
    alone: list[int] = []
    for kind in np.unique(kinds[chosen.kept]):
        having = np.unique(groups[chosen.kept & (kinds == kind)])
        alone.extend(having if len(having) == 1 else [])
    return np.array(alone, np.int32)


def _is(values: Any, name: str) -> Flags:
    names = values.dictionary.to_pylist()
    return codes(values) == (names.index(name) if name in names else -2)
