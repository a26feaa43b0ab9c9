"""All the work of a stage as columns: keys and items of millions; `Work` objects only of those that are done now."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from opendimo.pipelines.engine.columns import Column
from opendimo.pipelines.engine.stage import Stage, Work
from opendimo.storage_schemas.ids import stable_id, work_keys

Row = dict[str, Any]
CHUNK = 1 << 16  # rows that are Python objects at one time


@dataclass(frozen=True)
class Planned:
    """`keys` (distinct) and `items`: work key and `item_id` of each piece of work. `works` makes the objects of chosen
    ones. `revision` is what all keys have in common: code version, config and weights; empty where they differ."""

    keys: Column
    items: Column
    works: Callable[[Sequence[int]], list[Work]]
    revision: str = ""

    def __len__(self) -> int:
        return len(self.keys)

    def all(self) -> list[Work]:
        """Every piece of work: of short plans only."""
        return self.works(range(len(self)))

    @classmethod
    def of(cls, works: Iterable[Work], revision: str = "") -> "Planned":
        """A short plan of objects that are there already; of one key the last counts."""
        listed = list({work.key: work for work in works}.values())
        keys = pa.array([work.key for work in listed], pa.string())
        items = pa.array([work.item_id for work in listed], pa.string())
        return cls(keys, items, lambda chosen: [listed[k] for k in chosen], revision)

    @classmethod
    def rows(
        cls,
        stage: Stage,
        config: Any,
        rows: pa.Table,
        item: str,
        content: Callable[[pa.Table], Column],
        work: Callable[[str, Row], Work],
    ) -> "Planned":
        """A piece of work per row: `content` says, as JSON texts, what goes in; `item` is the column of `item_id`s.

        `config` is the stage's config as it enters work keys; `work` makes an object of its key and row.
        """
        chunks = (content(rows.slice(start, CHUNK)).to_pylist() for start in range(0, rows.num_rows, CHUNK))
        shared = (stage.name, stage.version, config, stage.weights)
        keys = pa.chunked_array([pa.array(work_keys(chunk, *shared)) for chunk in chunks], pa.string())

        def works(chosen: Sequence[int]) -> list[Work]:
            indices = pa.array(chosen, pa.int64())
            chosen_keys, chosen_rows = keys.take(indices).to_pylist(), rows.take(indices).to_pylist()
            return [work(key, row) for key, row in zip(chosen_keys, chosen_rows, strict=True)]

        return cls(keys, rows[item], works, stable_id("revision", *shared))
