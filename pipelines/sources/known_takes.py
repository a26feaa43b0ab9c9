"""Recognise takes of rigs that are in the lake already, by whatever path they are reached.

A take is named relative to the ingested path, so a subfolder, a link or a copy gives it another name. It is the same
take if its calibration and the beginning of its first video have the same content, and a video of the same camera has
the same size: then it keeps the name and the id under which it was first ingested.
"""

import logging
import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from opendimo.pipelines.engine.stage import Work
from opendimo.pipelines.sources.multiview import KIND, CalibratedView, capture_id, new_view
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.rows import Row

log = logging.getLogger(__name__)


class _Take(NamedTuple):
    """Name and capture id under which a take was first ingested, in the lake or in this plan."""

    name: str
    capture_id: str


def as_stored(lake: Lake, works: list[Work]) -> list[Work]:
    """Give the views of takes that the lake knows their stored name and capture, and their path if it is the same file.

    Of copies that are planned together only one is kept. The views of a capture are those planned and those stored.
    """
    stored = lake.read("sources", ["capture_id", "view", "name", "size", "local_path", "uri"], f"kind = '{KIND}'")
    takes: dict[str, list[CalibratedView]] = defaultdict(list)
    for work in works:
        if isinstance(work.payload, CalibratedView):
            takes[work.payload.capture_id].append(work.payload)
    known = _known(stored, takes)
    paths = {(row["capture_id"], row["view"]): row for row in stored}
    planned: dict[tuple[str, str, int], Work] = {}
    for take, view in ((known[capture], view) for capture in known for view in takes[capture]):
        work = _as(take, view, paths)
        kept = planned.setdefault((take.capture_id, view.camera, _size(view.video)), work)
        if kept.key != work.key:
            log.warning("%s: a copy of %s, ingested once", view.video, kept.payload.video)
    others = [work for work in works if not isinstance(work.payload, CalibratedView)]
    together = _with_all_views([*planned.values(), *others], stored)
    return sorted(together, key=lambda work: (work.name, work.key))


def _known(stored: Iterable[Row], takes: dict[str, list[CalibratedView]]) -> dict[str, _Take]:
    """Return the take that each of `takes`, by capture id, is: those stored under their id first, then by name."""
    ids = {row["capture_id"] for row in stored}
    by_file: dict[tuple[str, int], set[_Take]] = defaultdict(set)  # of one camera and size
    for row in stored:
        name = row["name"].removesuffix(f"/{row['view']}")
        by_file[row["view"], row["size"]].add(_Take(name, row["capture_id"]))
    known: dict[str, _Take] = {}
    for capture in sorted(takes, key=lambda capture: (capture not in ids, takes[capture][0].take)):
        views = takes[capture]
        take, content = _Take(views[0].take, capture), views[0].content
        alike = [by_file[view.camera, _size(view.video)] for view in views]
        if capture not in ids:
            same = {other for other in set().union(*alike) if capture_id(other.name, content) == other.capture_id}
            take = min(same, default=take)
        for files in alike:
            files.add(take)
        known[capture] = take
    return known


def _as(take: _Take, view: CalibratedView, stored: dict[tuple[str, str], Row]) -> Work:
    """Return the work of a view that belongs to `take`, read where it was first read if that is the same file."""
    view = replace(view, name=f"{take.name}/{view.camera}", take=take.name, capture_id=take.capture_id)
    row = stored.get((take.capture_id, view.camera))
    if row is None or row["local_path"] == view.video or not _is_same(row["local_path"], view.video):
        return new_view(view)
    first, here = Path(row["local_path"]).parent, Path(view.video).parent

    def moved(path: str) -> str:
        there = os.path.normpath(first / os.path.relpath(path, here))
        return there if _is_same(there, path) else path

    return new_view(
        replace(
            view,
            video=row["local_path"],
            uri=row["uri"],
            calibration=moved(view.calibration),
            files=[moved(path) for path in view.files],
            board=view.board and moved(view.board),
            times=view.times and moved(view.times),
        )
    )


def _is_same(a: str, b: str) -> bool:
    return os.path.realpath(a) == os.path.realpath(b) and os.path.exists(a)


def _size(video: str) -> int:
    """Return the size of a file in bytes; 0 if it vanished since it was listed."""
    return os.path.getsize(video) if os.path.exists(video) else 0


def _with_all_views(works: list[Work], stored: Iterable[Row]) -> list[Work]:
    """Add views to the captures of `works`: those of other copies, and those stored, as takes may come in parts."""
    views: dict[str, set[str]] = defaultdict(set)
    for row in stored:
        views[row["capture_id"]].add(row["view"])
    for work in works:
        if isinstance(work.payload, CalibratedView):
            views[work.payload.capture_id].update(work.payload.views)

    def with_views(work: Work) -> Work:
        view = work.payload
        if not isinstance(view, CalibratedView):
            return work
        return replace(work, payload=replace(view, views=sorted(views[view.capture_id])))

    return [with_views(work) for work in works]
