"""Define the policy of a release, which filters its pairs; it is read from a TOML file.

```toml
licences = ["CC-BY-4.0", "CC0-1.0"]   # allowed licences, by exact name; empty: all
unknown_licence = false               # whether to include sources without a licence
approval = true                       # whether a person must approve the release before training uses it

[floors]                              # minimum values of stored columns of clips, hands (both clips of a pair), poses
"poses.weight" = 0.3
"clips.sharpness" = 20

[ceilings]                            # maximum values
"poses.reprojection" = 0.1

[counts]                              # minimum numbers of pairs, by kind and by split
cross_view = 1000
test = 100
```
"""

from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
from pydantic import NonNegativeInt

from opendimo.storage_schemas.tables import TABLES

KINDS = ("same_view", "cross_view", "moving_camera", "resynthesised")
SPLITS = ("train", "test")
LIMITED = ("clips", "hands", "poses")


@dataclass(frozen=True)
class ReleasePolicy:
    """The policy of a release. The defaults include all pairs and require no approval.

    A missing value (null, or hands that were not measured) passes floors and ceilings; a pair without a pose label
    fails every limit on `poses`. Raises `ValueError` for an unknown column, kind or split.
    """

    licences: tuple[str, ...] = ()
    unknown_licence: bool = True
    approval: bool = False
    floors: dict[str, float] = field(default_factory=dict)
    ceilings: dict[str, float] = field(default_factory=dict)
    counts: dict[str, NonNegativeInt] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for limit in (*self.floors, *self.ceilings):
            _check_column(limit)
        if unknown := sorted(set(self.counts) - {*KINDS, *SPLITS}):
            raise ValueError(f"counts: no kind of pair or split {unknown[0]!r}; there are {', '.join(KINDS + SPLITS)}")

    def as_json(self) -> dict[str, Any]:
        """Return the policy as stored in the manifest."""
        return asdict(self) | {"licences": sorted(self.licences)}


def _check_column(limit: str) -> None:
    table, _, column = limit.partition(".")
    if table in LIMITED and column in TABLES[table].schema.names:
        kind = TABLES[table].schema.field(column).type
        if pa.types.is_floating(kind) or pa.types.is_integer(kind):
            return
    raise ValueError(f"no number {limit!r}: name a numeric column of {', '.join(LIMITED)}, such as poses.weight")
