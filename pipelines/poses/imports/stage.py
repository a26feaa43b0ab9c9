"""The stage that writes imported results to `poses`: rows beside those of the lake's own estimators.

Labels are chosen by quality: an imported one has weight only as far as it meets the clip's own landmarks.
"""

from collections import defaultdict
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from opendimo.pipelines.engine.planned import Planned
from opendimo.pipelines.engine.stage import DataError, Outcome, Work, run_each
from opendimo.pipelines.poses.imports.formats import Format, Unit, files_of, format_of, read, units
from opendimo.pipelines.poses.imports.result import Result
from opendimo.pipelines.poses.stage import PosesConfig, PosesStage
from opendimo.pipelines.quality.policy import Policy
from opendimo.pipelines.quality.verdicts import kept_clips
from opendimo.storage_schemas.ids import sha256_file, stable_id, work_key
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.rows import Row

Sized = tuple[float, float]


@dataclass(frozen=True)
class ImportConfig(PosesConfig):
    """`format`: a name of `FORMATS`. `fps`: frame rate of the results; None: that of the file, else of the video."""

    format: str = "gvhmr"
    fps: float | None = None

    def identity(self) -> "ImportConfig":
        """Return the config for work keys, without paths: files count by their content."""
        return replace(self, landmarks=PosesConfig.identity(self).landmarks, body=None)


@dataclass(frozen=True)
class Imported:
    """Payload: the clip to label, the result of its video, and the hash of the result's files."""

    clip_id: str
    unit: Unit
    content: str


class ImportStage(PosesStage):
    """Stage that writes one row of `poses` per clip of a video that has a result."""

    version = "import 1"

    def __init__(self, lake_uri: str, config: ImportConfig) -> None:
        super().__init__(lake_uri, config)
        self.form, self.fps = format_of(config.format), config.fps

    def run(self, batch: list[Work]) -> Outcome:
        """Label every work item."""
        return run_each(batch, self._import)

    def _import(self, work: Work) -> dict[str, list[Row]]:
        from opendimo.pipelines.poses.imports.label import imported_label
        from opendimo.pipelines.poses.label import pose_row
        from opendimo.pipelines.poses.view import view_of

        payload: Imported = work.payload
        (clip,) = self._rows("clips", "clip_id", [payload.clip_id])
        capture = self._one("captures", clip["capture_id"])
        try:
            people = _people(
                payload.unit, payload.content, self.form.name, (clip["source_width"], clip["source_height"])
            )
            if self.fps is not None:
                people = [replace(person, fps=self.fps) for person in people]
            label = imported_label(
                people, clip["start_frame"], view_of(clip), self._landmarks(clip), self._body, self.config.fit,
                capture.get("gravity_down"),
            )  # fmt: skip
        except DataError as error:
            raise DataError(f"{payload.unit.path}: {str(error).removeprefix(f'{payload.unit.path}: ')}") from error
        estimator = f"imported {self.form.name}"
        licence = f"{self.form.licence}; {self._licence(estimator)}"
        return {"poses": [pose_row(clip["clip_id"], work.key, estimator, licence, label)]}


@lru_cache(maxsize=2)  # the clips of a video follow each other
def _people(unit: Unit, content: str, form: str, size: Sized) -> list[Result]:
    """Read a result; `content`, the hash of its files, makes a changed file another one."""
    return read(unit, format_of(form), size)


@dataclass(frozen=True)
class Matching:
    """Results by what was found for them: ids of the sources of each `matched` one, those without a video, and those
    whose name several videos have."""

    matched: dict[Unit, list[str]]
    unmatched: list[Unit]
    ambiguous: list[Unit]

    def summary(self, form: str) -> str:
        """Return the summary in words, one line per group."""
        total = len(self.matched) + len(self.unmatched) + len(self.ambiguous)
        lines = [f"{total} results of {form}: {len(self.matched)} match a video of the lake"]
        for what, found in (("no video has their name", self.unmatched), ("several videos do", self.ambiguous)):
            if found:
                names = [str(unit.path) if unit.video is None else f"{unit.path} ({unit.video})" for unit in found]
                more = "" if len(names) <= 5 else f" and {len(names) - 5} more"
                lines.append(f"  {len(found)} do not, because {what}: {', '.join(names[:5])}{more}")
        return "\n".join(lines)


def match(lake: Lake, folder: Path, form: Format) -> Matching:
    """Match the results below `folder` to sources by the name of the video; in the world of a calibration also by the
    name of the take, whose views share it. Letter case does not matter."""
    named: dict[str, set[str]] = defaultdict(set)
    takes: dict[str, set[str]] = defaultdict(set)
    captures = {row["capture_id"]: row["take"] for row in lake.read("captures", ["capture_id", "take"])}
    for row in lake.read("sources", ["source_id", "uri", "name", "capture_id"]):
        for name in {Path(row["uri"]).stem, row["name"], Path(row["name"]).stem}:
            named[name.casefold()].add(row["source_id"])
        takes[str(captures.get(row["capture_id"], "")).casefold()].add(row["source_id"])
    found = Matching({}, [], [])
    for unit in units(folder, form):
        names = [name.casefold() for name in unit.names()]
        by_video = next((named[name] for name in names if name in named), set())
        by_take = next((takes[name] for name in names if name in takes), set()) if form.of_take else set()
        if by_take or len(by_video) == 1:
            found.matched[unit] = sorted(by_take or by_video)
        else:
            (found.ambiguous if by_video else found.unmatched).append(unit)
    return found


def plan(lake: Lake, stage: ImportStage, folder: str, policy: Policy) -> tuple[Planned, dict[str, int]]:
    """Plan one piece of work per kept clip of a matched video; also return how many results are left out, by reason."""
    matching = match(lake, Path(folder), stage.form)
    columns = ["source_id", "name", "video_sha256", "work_key"]
    clips: dict[str, list[Row]] = defaultdict(list)
    for row in kept_clips(lake, policy, columns).to_pylist():
        clips[row["source_id"]].append(row)
    works: list[Work] = []
    without = 0
    for unit, source_ids in matching.matched.items():
        chosen = [row for source_id in source_ids for row in clips[source_id]]
        content = stable_id(*(sha256_file(file) for file in files_of(unit, stage.form) if file.is_file()))
        without += not chosen
        for row in chosen:
            parts: list[Any] = [row["clip_id"], row["video_sha256"], row["work_key"], unit.video, content]
            key = work_key([*parts, stage.weights], stage.name, stage.version, stage.config.identity())
            works.append(Work(key, row["clip_id"], row["name"], Imported(row["clip_id"], unit, content)))
    left = {
        "no_video_of_that_name": len(matching.unmatched),
        "several_videos_of_that_name": len(matching.ambiguous),
        "no_kept_clip": without,
    }
    revision = stable_id("revision", stage.name, stage.version, stage.config.identity(), stage.weights)
    return Planned.of(works, revision), {reason: count for reason, count in left.items() if count}
