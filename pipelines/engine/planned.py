"""The plan of a stage: all of its work as Arrow columns, with `Work` objects created only for the selected rows."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from opendimo.pipelines.engine.columns import Column
from opendimo.pipelines.engine.stage import Stage, Work
from opendimo.storage_schemas.ids import stable_id, work_keys
from opendimo.storage_schemas.rows import Row

CHUNK = 1 << 16  # rows converted to Python objects at once


def identity_of(config: Any) -> Any:
    """Return a stage's config as it is hashed into work keys: what its method `identity` returns, else the config.

    Paths of models (files count by their content), devices and time limits do not change results, so they are left out.
    """
    return config.identity() if hasattr(config, "identity") else config


@dataclass(frozen=True)
class Planned:
    """All work of a stage.

    `keys` (distinct) and `items` are the work key and the `item_id` of each piece of work. `works` creates the `Work`
    objects of the rows at the given indices. `revision` hashes what all keys share (stage version, config, weights);
    it is empty if the keys do not share these.
    """

    keys: Column
    items: Column
    works: Callable[[Sequence[int]], list[Work]]
    revision: str = ""

    def __len__(self) -> int:
        return len(self.keys)

    def all(self) -> list[Work]:
        """Return all `Work` objects. Use it for short plans only."""
        return self.works(range(len(self)))

    @classmethod
    def of(cls, works: Iterable[Work], revision: str = "") -> "Planned":
        """Create a short plan from existing `Work` objects; if a key occurs several times, the last one is used."""
        unique_works = list({work.key: work for work in works}.values())
        keys = pa.array([work.key for work in unique_works], pa.string())
        items = pa.array([work.item_id for work in unique_works], pa.string())
        return cls(keys, items, lambda chosen: [unique_works[k] for k in chosen], revision)

    @classmethod
    def rows(
        cls,
        stage: Stage,
        rows: pa.Table,
        item: str,
        content: Callable[[pa.Table], Column],
        work: Callable[[str, Row], Work],
    ) -> "Planned":
        """Create a plan with one piece of work per row.

        `content` returns the input content of each row as JSON text, for the work key. `item` names the column of the
        `item_id`s. `work` creates the `Work` of a key and row.
        """
        chunks = (content(rows.slice(start, CHUNK)).to_pylist() for start in range(0, rows.num_rows, CHUNK))
        shared = (stage.name, stage.version, identity_of(stage.config), stage.weights)
        keys = pa.chunked_array([pa.array(work_keys(chunk, *shared)) for chunk in chunks], pa.string())

        def works(chosen: Sequence[int]) -> list[Work]:
            indices = pa.array(chosen, pa.int64())
            chosen_keys, chosen_rows = keys.take(indices).to_pylist(), rows.take(indices).to_pylist()
            return [work(key, row) for key, row in zip(chosen_keys, chosen_rows, strict=True)]

        return cls(keys, rows[item], works, stable_id("revision", *shared))
