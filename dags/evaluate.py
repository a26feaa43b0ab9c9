"""Steps of an evaluation: select the cases, generate the clips of each checkpoint, compute metrics, write the page."""

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
from opendimo.training.generate import Placing
from opendimo.training.pipeline_folder import find_pipeline
from opendimo.training.release import Release


def prepare(
    release: Release, checkpoints: Mapping[str, str], out: Path, config: EvaluationConfig
) -> tuple[list[Case], Measures]:
    """Return the test cases and the metrics.

    Writes the reference, driving video and ground truth of each case to `out`, and checks the checkpoints, so that
    errors surface before any clip is generated.
    """
    cases = choose_cases(release, config)
    measures = Measures.of(config.weights, joint_finder(), camera_moves)
    for name, checkpoint in checkpoints.items():
        check_checkpoint(Path(checkpoint), name, out, release, config)
    with step("references and truth", len(cases)) as bar:
        write_inputs(release, cases, out, bar.advance)
    return cases, measures


def make(release: Release, name: str, checkpoint: str, cases: list[Case], out: Path, config: EvaluationConfig) -> None:
    """Generate the clips of one checkpoint."""
    silence_libraries()
    with step(f"generate {name}", len(cases)) as bar:
        make_clips(release, Path(checkpoint), cases, out / name, config, Placing(), bar.advance)


def compare(
    release: Release,
    cases: list[Case],
    measures: Measures,
    checkpoints: Mapping[str, str],
    clips: Mapping[str, str],
    out: Path,
    config: EvaluationConfig,
) -> dict[str, Any]:
    """Compute the metrics of all systems, write tables and page, and update the model cards of the checkpoints."""
    folders = {name: out / name for name in checkpoints} | {name: Path(folder) for name, folder in clips.items()}
    with step("measure", len(cases)) as bar:
        result = evaluate(release, cases, folders, out, config, measures, bar.advance)
    write_evaluation_page(out)
    for name, checkpoint in checkpoints.items():
        record_on_card(find_pipeline(checkpoint), card_summary(result, name))
    return result
