"""Lineage as Prefect assets: sources > clips > labels > pairs > release > training.

Each commit of a stage, each release and each finished training stage emits `prefect.asset.materialization.succeeded`
with the assets that it was made from, in the event feed of the dashboard. A server of one's own has no page for assets.
"""

from pathlib import Path

from prefect.assets import Asset, AssetProperties

from opendimo.dags.labels import lake_slug

MADE_FROM = {
    "sources": (),
    "clips": ("sources",),
    "duplicates": ("clips",),
    "hands": ("clips",),
    "rigs": ("sources",),
    "poses": ("clips", "rigs"),
    "captions": ("clips",),
    "latents": ("clips", "captions"),
    "pairs": ("latents", "poses", "captions"),
}
"""Stages by name, and the stages whose rows they read."""


def stage_asset(lake: str, stage: str) -> Asset:
    """Return the asset of what a stage writes to a lake."""
    return _asset(lake, stage, f"{stage} of {lake}")


def upstream_of(lake: str, stage: str) -> list[Asset | str]:
    """Return the assets that a stage reads; none for a stage that is not ours."""
    return [stage_asset(lake, name) for name in MADE_FROM.get(stage, ())]


def release_asset(lake: str, release: str) -> Asset:
    """Return the asset of all versions of a release. `release`: NAME or NAME@VERSION."""
    name = release.partition("@")[0]
    return _asset(lake, f"release/{name}", f"release {name} of {lake}")


def training_asset(lake: str, out: str) -> Asset:
    """Return the asset of the checkpoints in the folder `out`."""
    return _asset(lake, f"training/{Path(out).name.replace('@', '-')}", f"checkpoints in {out}")


def _asset(lake: str, path: str, description: str) -> Asset:
    key = f"opendimo://{lake_slug(lake)}/{path}"
    return Asset(key=key, properties=AssetProperties(name=path, description=description))
