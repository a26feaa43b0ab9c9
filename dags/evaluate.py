"""The steps of an evaluation: what is compared, the clips of each checkpoint, the numbers and the page."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opendimo.dags.progress import silence_libraries, step
from opendimo.pipelines.generation.seen import camera_moves, joint_finder
from opendimo.pipelines.report.evaluation import write_evaluation_page
from opendimo.training.evaluation.cases import Case, choose_cases
from opendimo.training.evaluation.clips import check_checkpoint, make_clips, write_inputs
from opendimo.training.evaluation.config import EvaluationConfig
from opendimo.training.evaluation.evaluate import card_summary, evaluate, record_on_card
from opendimo.training.evaluation.measure import Measures
from opendimo.training.generate import Placing, find_pipeline
from opendimo.training.release import Release


def prepare(
    release: Release, checkpoints: Mapping[str, str], out: Path, config: EvaluationConfig
) -> tuple[list[Case], Measures]:
    """The cases, with reference, driver and truth of each on disk, and the measures; what is wrong is found here."""
    cases = choose_cases(release, config)
    measures = Measures.of(config.weights, joint_finder(), camera_moves)
    for name, checkpoint in checkpoints.items():
        check_checkpoint(Path(checkpoint), name, out, release, config)
    with step("references and truth", len(cases)) as shown:
        write_inputs(release, cases, out, shown.advance)
    return cases, measures


def make(release: Release, name: str, checkpoint: str, cases: list[Case], out: Path, config: EvaluationConfig) -> None:
    """The clips of one checkpoint."""
    silence_libraries()
    with step(f"generate {name}", len(cases)) as shown:
        make_clips(release, Path(checkpoint), cases, out / name, config, Placing(), shown.advance)


def compare(
    release: Release,
    cases: list[Case],
    measures: Measures,
    checkpoints: Mapping[str, str],
    clips: Mapping[str, str],
    out: Path,
    config: EvaluationConfig,
) -> dict[str, Any]:
    """Numbers, tables and page of all systems; then onto the model cards of the checkpoints."""
    folders = {name: out / name for name in checkpoints} | {name: Path(folder) for name, folder in clips.items()}
    with step("measure", len(cases)) as shown:
        result = evaluate(release, cases, folders, out, config, measures, shown.advance)
    write_evaluation_page(out)
    for name, checkpoint in checkpoints.items():
        record_on_card(find_pipeline(checkpoint), card_summary(result, name))
    return result
