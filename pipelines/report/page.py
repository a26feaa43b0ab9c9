"""Build the report pages: read the lake, render missing media, fill the templates."""

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
from opendimo.pipelines.report.environment import environment, template_bytes
from opendimo.pipelines.report.evaluation import read_evaluation
from opendimo.pipelines.report.funnel import COUNTED, read_funnel
from opendimo.pipelines.report.generated import read_generated
from opendimo.pipelines.report.judged import judged_clips, scored_clips
from opendimo.pipelines.report.listing import LISTED, clip_script, number_columns
from opendimo.pipelines.report.losses import read_losses
from opendimo.pipelines.report.media import Media
from opendimo.pipelines.report.previews import read_previews
from opendimo.pipelines.report.rigs import read_rigs
from opendimo.pipelines.report.samples import read_samples
from opendimo.pipelines.report.scores import SCORES, histograms
from opendimo.storage_schemas.lake.files import write_bytes
from opendimo.storage_schemas.lake.lake import Lake, is_lake
from opendimo.storage_schemas.releases.release import list_releases
from opendimo.storage_schemas.rows import Row

PREVIEWS = 60  # default number of previews of clips that index.html does not show


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
    previews: int = PREVIEWS,
) -> Path:
    """Write `out/index.html` and `out/clips.html`, with media in `out/media/`, and return the path of the first.

    `training`: output folder of a training run. `generated`: a generated clip FILE.mp4 with FILE.json next to it.
    `evaluation`: output folder of `dimo evaluate`. `policy`: filter policy for the clips. `previews`: number of clips
    that get a preview besides those that `index.html` shows. Existing media are not rendered again. Raises `ValueError`
    if there is no lake at `lake_uri`, or no evaluation in `evaluation`.
    """
    if not is_lake(lake_uri):
        raise ValueError(f"{lake_uri} is not a lake: make one with `dimo ingest` or `dimo demo`")
    lake, policy, media = Lake(lake_uri), policy or Policy(), Media(out)
    judged, clips = judged_clips(lake, policy)
    listed = scored_clips(lake, judged, [*LISTED, *(score.column for score in SCORES)])
    kept = clips.filter(clips["reason"].is_null())
    groups = kept_groups(lake, kept, media)
    filtered = filtered_clips(lake, judged, media)
    shown = [card.clip["clip_id"] for group in groups for card in group.cards]
    shown += [thumbnail.clip["clip_id"] for reason in filtered for thumbnail in reason.thumbnails]
    played = read_previews(lake, [*shown, *_others(listed, shown, previews)], media)
    numbers = number_columns(policy)
    templates, player = environment(), media.script(template_bytes("player.js"))
    clips_page = templates.get_template("clips.html.j2").render(
        lake=lake.uri,
        listed=listed.num_rows,
        judged=clips.num_rows,
        previews=len(played),
        numbers=numbers,
        data=media.script(clip_script(lake, listed, played, numbers)),
        code=media.script(template_bytes("clips.js")),
        player=player,
    )
    page = templates.get_template("page.html.j2").render(
        summary=_summary(lake, clips, kept),
        release=_newest_release(lake),
        player=player,
        funnel=read_funnel(lake, policy),
        counted=COUNTED,
        rejects=group_rejects(rejects(lake)),
        histograms=histograms(listed, policy),
        listed=listed.num_rows,
        duplicates=read_duplicates(lake, clips, media),
        rigs=read_rigs(lake),
        groups=groups,
        unshown=kept.num_rows - sum(len(group.cards) for group in groups),
        filtered=filtered,
        previews=played,
        training=training,
        losses=read_losses(training) if training else None,
        driver=read_driver_checks(training) if training else None,
        samples=read_samples(training, media) if training else [],
        evaluation=read_evaluation(evaluation, media) if evaluation else None,
        generated=read_generated(generated, media) if generated else None,
    )
    write_bytes(out / "clips.html", clips_page.encode(errors="replace"))
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


def _others(listed: pa.Table, shown: list[str], count: int) -> list[str]:
    """Return `count` more clips to preview: those with the lowest ids, which are hashes, so the sample is unbiased."""
    is_shown = pc.is_in(listed["clip_id"], pa.array(shown, pa.string()))
    others = listed.filter(pc.and_not(listed["video_sha256"].is_valid(), is_shown))
    return others["clip_id"].sort()[:count].to_pylist()


def _newest_release(lake: Lake) -> Row | None:
    newest = max(list_releases(lake), key=lambda release: release["created_at"], default=None)
    return newest and {**newest, "manifest": json.loads(newest["manifest"])}
