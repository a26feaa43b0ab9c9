"""Probe whether fetched URLs are still available and unchanged; each probe is stored as an attempt in `fetches`."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

import pyarrow as pa

from opendimo.pipelines.engine.columns import last_of, look_up
from opendimo.pipelines.sources.config import SourcesConfig
from opendimo.pipelines.sources.downloads.platforms import is_page
from opendimo.pipelines.sources.downloads.probe_url import Known, probe_url
from opendimo.pipelines.sources.downloads.urls import HTTP, url_sha256
from opendimo.storage_schemas.ids import stable_id
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.rows import Row

AT_ONCE = 32  # concurrent probes; each host also has its own rate limit
BATCH = 1000  # probes per commit
RECEIVED = "bytes > 0 OR resumed_from > 0 OR http_status IS NULL"
"""Filter of attempts that downloaded the file rather than only probed it.

An attempt that only registers a file completed by a killed process has 0 bytes and no HTTP status.
"""


@dataclass(frozen=True)
class Checked:
    """Number of URLs that were probed (`asked`), skipped (`not_asked`: not an http(s) file, or stored without the parts
    that may be secret), and postponed because the host asked for a pause (`later`)."""

    asked: int
    not_asked: int
    later: int


def check_links(
    lake: Lake, config: SourcesConfig, report: Callable[[int, int], None] = lambda done, total: None
) -> Checked:
    """Probe every URL that was ever fetched, within the limits and rate limits of downloads, and store the results.

    `report` is called with (done, total).
    """
    fetched = _fetched(lake)
    rows = [row for row in fetched.to_pylist() if _can_be_probed(row, config)]
    asked = later = 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for batch in (rows[start : start + BATCH] for start in range(0, len(rows), BATCH)):
            began, answers = time.time_ns(), []
            for row, answer in zip(batch, pool.map(lambda row: _probe(row, config), batch), strict=True):
                later += answer is None
                asked += answer is not None
                answers += [] if answer is None else [{**answer, "work_key": row["work_key"]}]
                report(asked + later, len(rows))
            if answers:
                lake.append(stable_id("links checked", began, batch[0]["url_sha256"]), {"fetches": answers})
    return Checked(asked, fetched.num_rows - len(rows), later)


def _fetched(lake: Lake) -> pa.Table:
    """Return the last successful attempt of each URL, with the `size` of its file if that is still a source.

    Rows are sorted by URL hash, so that consecutive probes go to different hosts.
    """
    columns = ["url", "url_sha256", "etag", "sha256", "started", "bytes", "work_key"]
    attempts = lake.dataset("fetches").to_table(columns=columns, filter=f"status = 'fetched' AND ({RECEIVED})")
    last = last_of(attempts, ["url_sha256"], lambda rows: [rows["started"]])
    sources = lake.dataset("sources").to_table(columns=["content_sha256", "size"])
    return last.append_column("size", look_up(last["sha256"], sources, "content_sha256", "size")).sort_by("url_sha256")


def _can_be_probed(row: Row, config: SourcesConfig) -> bool:
    complete = url_sha256(row["url"]) == row["url_sha256"]  # stored without hidden secrets
    return complete and urlsplit(row["url"]).scheme in HTTP and not is_page(row["url"], config)


def _probe(row: Row, config: SourcesConfig) -> Row | None:
    return probe_url(row["url"], Known(row["sha256"], row["size"], row["etag"]), config)
