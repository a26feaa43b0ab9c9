"""Clean a lake and its download cache on this machine."""

from datetime import timedelta

from opendimo.pipelines.sources.downloads.leftovers import clean_downloads
from opendimo.pipelines.sources.stage import downloads_folder
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.maintain import TWO_WEEKS, Freed, clean


def clean_all(
    lake: Lake, older_than: timedelta = TWO_WEEKS, dry_run: bool = False, abandoned: bool = False
) -> list[Freed]:
    """Clean the lake, then its downloads; `dry_run` only counts."""
    return [
        *clean(lake, older_than, dry_run, abandoned),
        clean_downloads(downloads_folder(lake.uri), older_than, dry_run),
    ]
