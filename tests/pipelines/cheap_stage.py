"""A cheap but complete stage: fills `captions` with dummy rows, and fails for configured items."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from opendimo.pipelines.engine.planned import Planned
from opendimo.pipelines.engine.planning import RUN_LIMIT, finish, prepare, stage_outcome
from opendimo.pipelines.engine.stage import DataError, Needs, Outcome, TransientError, Work, run_each
from opendimo.storage_schemas.ids import stable_id, work_key
from opendimo.storage_schemas.lake.lake import Lake

TEXTS = ("captioner", "camera_sentence", "content_sentence", "text")


@dataclass(frozen=True)
class CheapConfig:
    """A config with one number, which is written into the rows."""

    number: int = 0


@dataclass
class CheapStage:
    """Fails for `corrupt` items (`DataError`) and `busy` items (`TransientError`); `ran` lists the items that ran."""

    config: CheapConfig = CheapConfig()
    corrupt: frozenset[str] = frozenset()
    busy: frozenset[str] = frozenset()
    ran: list[str] = field(default_factory=list)
    name: str = "captions"
    version: str = "1"
    weights: str = ""
    needs: Needs = field(default_factory=Needs)

    def setup(self) -> None:
        """Load nothing."""

    def run(self, batch: list[Work]) -> Outcome:
        """Return one row for each piece of work that does not fail."""
        return run_each(batch, self._row)

    def plan(self, items: Iterable[str]) -> Planned:
        """Plan one piece of work per item."""
        item_ids = list(items)
        keys = [work_key(item, self.name, self.version, self.config, self.weights) for item in item_ids]
        revision = stable_id(self.version, self.config, self.weights)
        return Planned.of(
            [Work(key, item, f"name of {item}") for key, item in zip(keys, item_ids, strict=True)], revision
        )

    def _row(self, work: Work) -> dict[str, list[dict]]:
        self.ran.append(work.item_id)
        if work.item_id in self.corrupt:
            raise DataError(f"{work.name} is corrupt")
        if work.item_id in self.busy:
            raise TransientError("the server is busy")
        facts = {"caption_id": stable_id("caption", work.key), "clip_id": work.item_id, "camera_terms": []}
        texts = dict.fromkeys(TEXTS, str(self.config.number))
        return {self.name: [{**facts, **texts, "evidence": json.dumps({})}]}


def run_all(lake: Lake, stage: CheapStage, items: Iterable[str], limit: int = RUN_LIMIT, shard_size: int = 3) -> int:
    """Run everything in this process, run after run; return the number of works that were run."""
    planned, total = stage.plan(items), 0
    while True:
        with prepare(lake, stage, planned, shard_size, limit) as run:
            for k, shard in enumerate(run.shards):
                stage_outcome(lake, run.shard(k), stage, stage.run(shard))
            if not run.shards:
                return total
            finish(lake, run)
            total += run.size


def drive(uri: str, items: list[str], number: int, seen: Path) -> None:
    """Run all items as the driver in a child process; write the items that it ran to the file `number` in `seen`."""
    stage = CheapStage(corrupt=frozenset({"item-3"}))
    run_all(Lake(uri), stage, items, limit=5, shard_size=2)
    (seen / str(number)).write_text("\n".join(stage.ran))
