"""Recognise files that the lake already knows."""

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from opendimo.pipelines.engine.stage import Work
from opendimo.pipelines.sources.internet import KIND, ListedVideo, LocalVideo, RemoteVideo, video_work

if TYPE_CHECKING:
    from opendimo.storage_schemas.lake.lake import Lake


def as_stored(lake: "Lake", works: list[Work]) -> list[Work]:
    """Give files that the lake knows the name and path under which they were first ingested.

    So a file reached by another folder, or by a link, is the same source, and not a second one with the same content.
    """
    listed = [work.payload for work in works if isinstance(work.payload, ListedVideo)]
    videos = [item.video for item in (*listed, *(i.original for i in listed)) if isinstance(item, LocalVideo)]
    if not videos:
        return works
    names = {Path(path).name for video in videos for path in (video, os.path.realpath(video))}
    columns = ["local_path", "name", "uri"]
    stored = lake.dataset("sources").to_table(columns=columns, filter=f"kind = '{KIND}'").to_pylist()
    alike = [row for row in stored if "://" not in row["uri"] and Path(row["local_path"]).name in names]
    same = {(row["local_path"], row["name"]) for row in alike}
    by_name = sorted(alike, key=lambda row: row["name"], reverse=True)  # of several, the first name is taken
    known = {os.path.realpath(row["local_path"]): row for row in by_name}

    def named(item: LocalVideo | RemoteVideo) -> LocalVideo | RemoteVideo:
        if item.original:
            item = replace(item, original=named(item.original))
        if not isinstance(item, LocalVideo) or (item.video, item.name) in same:
            return item
        if (row := known.get(os.path.realpath(item.video))) is None:
            return item
        return replace(item, name=row["name"], uri=row["uri"], video=row["local_path"])

    def stored_work(work: Work) -> Work:
        item = work.payload
        if not isinstance(item, LocalVideo | RemoteVideo) or (new := named(item)) == item:
            return work
        return video_work(new) if isinstance(new, LocalVideo) else replace(work, payload=new)

    return [stored_work(work) for work in works]
