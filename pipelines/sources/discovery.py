"""List the source items at a path given by the user.

The adapters are imported here only once they are needed, so that a wrong path is an error at once: reading calibrations
and renders takes libraries that need seconds to load.
"""

from pathlib import Path

from opendimo.pipelines.engine.stage import DataError, Work
from opendimo.pipelines.sources.config import SourcesConfig
from opendimo.pipelines.sources.renders.jobs import jobs_in
from opendimo.pipelines.sources.takes import takes_in

KINDS = ("internet", "unreal", "multiview")


def discover(kind: str, path: str | Path, options: SourcesConfig) -> list[Work]:
    """List the source items at `path`, one piece of work per item, in a fixed order. Decodes and downloads nothing.

    An unusable item (no calibration, no video, a bad line) becomes work that the stage rejects, so that the other items
    are still processed. Raises `DataError` if nothing can be listed and `ValueError` for an unknown `kind`.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind of source {kind!r}: use {', '.join(KINDS)}")
    root = Path(path).absolute()
    if not root.exists():
        raise DataError(f"no such file or folder: {root}")
    works = _works(kind, root, options)
    return sorted(works, key=lambda work: (work.name, work.key))


def _works(kind: str, root: Path, options: SourcesConfig) -> list[Work]:
    if kind == "unreal":
        jobs = jobs_in(root)
        from opendimo.pipelines.sources import unreal

        return unreal.discover(root, jobs, options)
    if kind == "multiview":
        takes = takes_in(root)
        from opendimo.pipelines.sources import multiview

        return multiview.discover(root, takes, options)
    from opendimo.pipelines.sources import internet

    return internet.discover(root, options)
