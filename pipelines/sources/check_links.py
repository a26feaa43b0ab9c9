"""Ask the servers again whether what was fetched is still there; the answers are attempts in `fetches`, too."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa

from opendimo.pipelines.engine.columns import last_of, look_up
from opendimo.pipelines.sources.config import SourcesConfig
from opendimo.pipelines.sources.downloads.look import Known, look
from opendimo.pipelines.sources.downloads.platforms import is_page
from opendimo.pipelines.sources.downloads.urls import HTTP, url_sha256
from opendimo.storage_schemas.ids import stable_id
from opendimo.storage_schemas.lake.lake import Lake

AT_ONCE = 32  # hosts have budgets of their own
BATCH = 1000  # answers that are committed together
RECEIVED = "bytes > 0 OR resumed_from > 0 OR http_status IS NULL"
"""Of attempts that fetched: not only looked at. What was on the disk of a process that was killed is 0 bytes long."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Checked:
    """URLs of a lake: `asked`, `not_asked` (no file by http(s), or kept without what may be a secret), and `later`, of
    which the host asked for a pause."""

    asked: int
    not_asked: int
    later: int


def check_links(
    lake: Lake, config: SourcesConfig, report: Callable[[int, int], None] = lambda done, total: None
) -> Checked:
    """Ask about every URL that was fetched once, within the limits and budgets of downloads, and store the answers.

    `report` is told how many of how many are done.
    """
    known = _fetched(lake)
    rows = [row for row in known.to_pylist() if _can_be_asked(row, config)]
    asked = later = 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for some in (rows[start : start + BATCH] for start in range(0, len(rows), BATCH)):
            began, answers = time.time_ns(), []
            for row, answer in zip(some, pool.map(lambda row: _look(row, config), some), strict=True):
                later += answer is None
                asked += answer is not None
                answers += [] if answer is None else [{**answer, "work_key": row["work_key"]}]
                report(asked + later, len(rows))
            if answers:
                lake.append(stable_id("links checked", began, some[0]["url_sha256"]), {"fetches": answers})
    return Checked(asked, known.num_rows - len(rows), later)


def _fetched(lake: Lake) -> pa.Table:
    """A row per URL that was fetched: that of the last time; `size` of the file where it is still a source. In order of
    hashes, so that hosts take turns."""
    columns = ["url", "url_sha256", "etag", "sha256", "started", "bytes", "work_key"]
    got = lake.dataset("fetches").to_table(columns=columns, filter=f"status = 'fetched' AND ({RECEIVED})")
    last = last_of(got, ["url_sha256"], lambda rows: [rows["started"]])
    sources = lake.dataset("sources").to_table(columns=["content_sha256", "size"])
    return last.append_column("size", look_up(last["sha256"], sources, "content_sha256", "size")).sort_by("url_sha256")


def _can_be_asked(row: Row, config: SourcesConfig) -> bool:
    whole = url_sha256(row["url"]) == row["url_sha256"]
    return whole and urlsplit(row["url"]).scheme in HTTP and not is_page(row["url"], config)


def _look(row: Row, config: SourcesConfig) -> Row | None:
    return look(row["url"], Known(row["sha256"], row["size"], row["etag"]), config)
