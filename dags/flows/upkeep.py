"""The maintenance flow: compact small fragments, then delete unused data.

It holds the commit lock, so it never runs at the same time as a commit.
"""

from datetime import timedelta

from prefect import get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from opendimo.dags.flows.labelled import labelled_flow
from opendimo.dags.flows.parameters import LakeUri
from opendimo.dags.labels import artifact_key
from opendimo.pipelines.sources.cleaning import clean_all
from opendimo.storage_schemas.lake.compact import Compacted, compact
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.maintain import TWO_WEEKS, Freed


@labelled_flow(name="clean")
def maintain(
    lake: LakeUri, older_than: timedelta = TWO_WEEKS, abandoned: bool = False
) -> tuple[list[Compacted], list[Freed]]:
    """Compact the tables of a lake and delete unused data; return what was compacted and what was deleted."""
    merged, freed = merge(lake), free(lake, older_than, abandoned)
    rows = [{"where": f.where, "files": f.files, "bytes": f.bytes, "versions": f.versions} for f in freed]
    create_table_artifact(key=artifact_key("clean", lake), table=rows, description=f"Deleted from {lake}")
    return merged, freed


@task(cache_policy=NO_CACHE)
def merge(lake: str) -> list[Compacted]:
    """Compact the small fragments of every table."""
    merged = compact(Lake(lake, existing=True))
    for table in merged:
        get_run_logger().info("%s: compacted %d fragments into %d", table.table, table.before, table.after)
    return merged


@task(cache_policy=NO_CACHE)
def free(lake: str, older_than: timedelta, abandoned: bool) -> list[Freed]:
    """Delete old versions, orphaned files, staged data and abandoned downloads."""
    freed = clean_all(Lake(lake, existing=True), older_than, abandoned=abandoned)
    for location in freed:
        for reason in location.kept:
            get_run_logger().info("%s: kept %s", location.where, reason)
    return freed
