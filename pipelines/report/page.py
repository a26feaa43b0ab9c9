"""Build the report page: read the lake, render missing media, fill the template."""

import json
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from opendimo.pipelines.engine.rejects import group_rejects, rejects
from opendimo.pipelines.quality.policy import Policy
from opendimo.pipelines.report.cards import filtered_clips, kept_groups
from opendimo.pipelines.report.driver import read_driver_checks
from opendimo.pipelines.report.duplicates import read_duplicates
from opendimo.pipelines.report.environment import environment
from opendimo.pipelines.report.evaluation import read_evaluation
from opendimo.pipelines.report.funnel import COUNTED, read_funnel
from opendimo.pipelines.report.generated import read_generated
from opendimo.pipelines.report.judged import judged_clips, scored_clips
from opendimo.pipelines.report.losses import read_losses
from opendimo.pipelines.report.media import Media
from opendimo.pipelines.report.rigs import read_rigs
from opendimo.pipelines.report.samples import read_samples
from opendimo.pipelines.report.scores import SCORES, histograms
from opendimo.storage_schemas.lake.files import write_bytes
from opendimo.storage_schemas.lake.lake import Lake, is_lake
from opendimo.storage_schemas.releases.release import list_releases
from opendimo.storage_schemas.rows import Row


@dataclass(frozen=True)
class Summary:
    """Key figures at the top of the page."""

    lake: str
    sources: int
    kept: int
    judged: int
    captures: int
    seconds: float
    last_commit: int | None
    written: int


def write_report(
    lake_uri: str | Path,
    out: Path,
    *,
    training: Path | None = None,
    generated: Path | None = None,
    evaluation: Path | None = None,
    policy: Policy | None = None,
) -> Path:
    """Write `out/index.html`, with pictures and videos in `out/media/`, and return its path.

    `training`: output folder of a training run. `generated`: a generated clip FILE.mp4 with FILE.json next to it.
    `evaluation`: output folder of `dimo evaluate`. `policy`: filter policy for the clips. Existing media are not
    rendered again. Raises `ValueError` if there is no lake at `lake_uri`, or no evaluation in `evaluation`.
    """
    if not is_lake(lake_uri):
        raise ValueError(f"{lake_uri} is not a lake: make one with `dimo ingest` or `dimo demo`")
    lake, policy, media = Lake(lake_uri), policy or Policy(), Media(out)
    judged, clips = judged_clips(lake, policy)
    scored = scored_clips(lake, judged, [score.column for score in SCORES])
    kept = clips.filter(clips["reason"].is_null())
    groups = kept_groups(lake, kept, media)
    template = environment().get_template("page.html.j2")
    page = template.render(
        summary=_summary(lake, clips, kept),
        release=_newest_release(lake),
        funnel=read_funnel(lake, policy),
        counted=COUNTED,
        rejects=group_rejects(rejects(lake)),
        histograms=histograms(scored, policy),
        scored=scored.num_rows,
        duplicates=read_duplicates(lake, clips, media),
        rigs=read_rigs(lake),
        groups=groups,
        unshown=kept.num_rows - sum(len(group.cards) for group in groups),
        filtered=filtered_clips(lake, judged, media),
        training=training,
        losses=read_losses(training) if training else None,
        driver=read_driver_checks(training) if training else None,
        samples=read_samples(training, media) if training else [],
        evaluation=read_evaluation(evaluation, media) if evaluation else None,
        generated=read_generated(generated, media) if generated else None,
    )
    write_bytes(out / "index.html", page.encode(errors="replace"))
    media.prune()
    return out / "index.html"


def _summary(lake: Lake, clips: pa.Table, kept: pa.Table) -> Summary:
    seconds = pc.divide(pc.multiply(kept["frames"], kept["fps_den"]).cast(pa.float64()), kept["fps_num"])
    return Summary(
        lake.uri,
        lake.dataset("sources").count_rows(),
        kept.num_rows,
        clips.num_rows,
        pc.count_distinct(kept["capture_id"]).as_py(),
        pc.sum(seconds).as_py() or 0.0,
        pc.max(lake.column("ledger", "committed_at")).as_py(),
        time.time_ns(),
    )


def _newest_release(lake: Lake) -> Row | None:
    newest = max(list_releases(lake), key=lambda release: release["created_at"], default=None)
    return newest and {**newest, "manifest": json.loads(newest["manifest"])}
