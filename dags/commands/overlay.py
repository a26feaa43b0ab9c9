"""`dimo overlay`: look at the labels of a clip on its video."""

import re
from pathlib import Path
from typing import Annotated

import typer

from opendimo.dags.options import ExistingLake


def overlay(
    name: Annotated[str, typer.Argument(help="Name or id of a clip, or of a source: all clips of that.")],
    lake: ExistingLake,
    out: Annotated[Path, typer.Option(file_okay=False, help="Output folder: a video per clip.")],
    body_model: Annotated[
        Path | None,
        typer.Option(exists=True, help="SMPL-X .npz of the labels. Default: the built-in synthetic mannequin."),
    ] = None,
    rerun: Annotated[
        bool, typer.Option("--rerun", help="Also write a recording for the viewer Rerun (.rrd) with the 3-D joints.")
    ] = False,
) -> None:
    """Draw the fitted body, its skeleton, landmarks and camera terms on the video of a clip.

    Crosses are the landmarks that the label was made from; the strip below shows the camera terms over time.

    Examples:

    dimo overlay dance_03 --lake /data/lake --out overlays

    dimo overlay dance_03 --lake /data/lake --out overlays --rerun
    """
    from opendimo.pipelines.report.overlay import find_clips, overlay_video, surface_model
    from opendimo.pipelines.report.rerun_file import write_recording
    from opendimo.storage_schemas.lake.lake import Lake

    home = Lake(lake, existing=True)
    clips = find_clips(home, name)
    body = surface_model(body_model)
    out.mkdir(parents=True, exist_ok=True)
    for shown in clips:
        plain = re.sub(r"[^\w-]+", "_", shown.clip["name"])
        file = out / f"{plain}_{shown.clip['clip_id'][:8]}.mp4"
        file.write_bytes(overlay_video(home, shown, body))
        print(file)
        if rerun:
            write_recording(file.with_suffix(".rrd"), home, shown)
            print(file.with_suffix(".rrd"))
