"""The upkeep flow: merge tiny fragments, then free what nobody needs. It never meets a commit: both take its lock."""

from datetime import timedelta

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from opendimo.pipelines.sources.cleaning import clean_all
from opendimo.storage_schemas.lake.compact import Compacted, compact
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.maintain import TWO_WEEKS, Freed


@flow
def maintain(
    lake: str, older_than: timedelta = TWO_WEEKS, abandoned: bool = False
) -> tuple[list[Compacted], list[Freed]]:
    """Keep the tables of a lake small and quick; what was merged, and what was freed."""
    merged, freed = merge(lake), free(lake, older_than, abandoned)
    rows = [{"where": f.where, "files": f.files, "bytes": f.bytes, "versions": f.versions} for f in freed]
    create_table_artifact(key="maintain", table=rows)
    return merged, freed


@task(cache_policy=NO_CACHE)
def merge(lake: str) -> list[Compacted]:
    """Merge the tiny fragments of every table."""
    merged = compact(Lake(lake))
    for table in merged:
        get_run_logger().info("%s: %d fragments, now %d", table.table, table.before, table.after)
    return merged


@task(cache_policy=NO_CACHE)
def free(lake: str, older_than: timedelta, abandoned: bool) -> list[Freed]:
    """Free old versions, orphans, staging, and what downloads left."""
    freed = clean_all(Lake(lake), older_than, abandoned=abandoned)
    for place in freed:
        for why in place.kept:
            get_run_logger().info("%s: kept %s", place.where, why)
    return freed
