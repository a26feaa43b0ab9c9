"""Recognise views of renders that the lake already knows.

A view is named after its job and its sequence. If several jobs of one run have the same name, it is named after the
path of its job below the ingested folder, which is another one when the job is reached by another folder.
"""

import os
from collections import defaultdict
from dataclasses import replace

from opendimo.pipelines.engine.stage import Work
from opendimo.pipelines.sources.unreal import KIND, RenderedView
from opendimo.storage_schemas.lake.lake import Lake


def as_stored(lake: Lake, works: list[Work]) -> list[Work]:
    """Give views whose pictures the lake knows the name under which they were first ingested, so they stay one source.

    Pictures are known by their real path. A view of another performance than the stored one is left as it is.
    """
    renders = [work.payload for work in works if isinstance(work.payload, RenderedView)]
    if not renders:
        return works
    columns = ["capture_id", "view", "local_path"]
    stored = lake.dataset("sources").to_table(columns=columns, filter=f"kind = '{KIND}'").to_pylist()
    by_name = sorted(stored, key=lambda row: row["view"], reverse=True)  # of several, the first name is taken
    known = {(row["capture_id"], os.path.realpath(row["local_path"])): str(row["view"]) for row in by_name}
    names: dict[str, dict[str, str]] = defaultdict(dict)  # by capture: the stored name of each listed view
    for render in renders:
        shot = render.shot
        name = known.get((shot.capture_id, os.path.realpath(shot.pictures)), shot.view)
        names[shot.capture_id][shot.view] = name

    def named(work: Work) -> Work:
        render = work.payload
        if not isinstance(render, RenderedView):
            return work
        stored_names = names[render.shot.capture_id]
        name = stored_names[render.shot.view]
        views = sorted(stored_names[view] for view in render.views)
        shot = replace(render.shot, view=name)
        return replace(work, name=name, payload=replace(render, name=name, shot=shot, views=views))

    return [named(work) for work in works]
