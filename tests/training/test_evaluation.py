"""Evaluations from cases to tables, on a small release with untrained pipelines."""

import json
import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from opendimo.model.dimo import DiMo, DiMoConfig
from opendimo.model.pipeline import DiMoPipeline
from opendimo.storage_schemas.media.video import decode, encode
from opendimo.storage_schemas.releases.release import Release
from opendimo.training.evaluation.cases import CROSS, SELF, Case, choose_cases, spread, strangers
from opendimo.training.evaluation.clips import check_checkpoint, make_clips, read_clip, write_inputs
from opendimo.training.evaluation.config import BASELINE, EvaluationConfig, Weights, named_folders
from opendimo.training.evaluation.evaluate import card_summary, evaluate, record_on_card
from opendimo.training.evaluation.known import Known
from opendimo.training.evaluation.measure import Measures
from opendimo.training.evaluation.summary import followed, mean_of
from opendimo.training.pipeline_folder import find_pipeline
from opendimo.training.release import Pair, Pairs, read_pairs
from tests.training.evaluation_lake import small_pipeline, small_release
from tests.training.test_evaluation_metrics import I3D, Inception, saved

CONFIG = EvaluationConfig(limit=4, steps=1)


def no_landmarks(frames: np.ndarray, *_: object) -> np.ndarray:
    """Landmark detector that finds no joints."""
    return np.zeros((len(frames), 52, 3), np.float32)


MEASURES = Measures.of(Weights(), no_landmarks, lambda *_: set())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Release, Path]:
    return small_release(tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="module")
def release(made: tuple[Release, Path]) -> Release:
    return made[0]


@pytest.fixture(scope="module")
def run(made: tuple[Release, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_pipeline(made[1], tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def cases(release: Release) -> list[Case]:
    return choose_cases(release, CONFIG)


@pytest.fixture(scope="module")
def out(release: Release, cases: list[Case], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """References, drivers, true and baseline clips."""
    folder = tmp_path_factory.mktemp("out")
    write_inputs(release, cases, folder)
    return folder


def test_cases_are_of_all_kinds_and_know_from_where_they_are_seen(release: Release) -> None:
    cases = choose_cases(release, EvaluationConfig())
    assert {case.pair.pair_id for case in cases} == {p.pair_id for p in read_pairs(release, "test")}
    gaps = {case.kind: case.gap for case in cases}
    assert gaps["same_view"] == 0 and gaps["cross_view"] == pytest.approx(60, abs=2)
    assert {case.facts()["gap"] for case in cases} == {"0", "60"}
    for case in cases:
        pans = "pans to the left" in case.prompt
        assert case.asked == (["pan_left"] if pans else ["static"]) and pans == (
            case.pair.capture_id.startswith("stage")
        )


def test_without_a_label_or_cameras_the_gap_is_unknown(release: Release) -> None:
    pair = next(p for p in read_pairs(release, "test") if p.kind == "cross_view")
    known = Known(release)
    unseen = known.clip(pair.target_clip_id) | {"world_to_camera": None}
    known.clip = {pair.target_clip_id: unseen, pair.driving_clip_id: known.clip(pair.driving_clip_id)}.__getitem__
    assert known.gap(pair) is None


def test_an_empty_split_is_refused(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opendimo.training.evaluation.cases.read_pairs", lambda *_: Pairs.of([]))
    with pytest.raises(ValueError, match=r"small@1 has no pairs in split 'test'.*--split train"):
        choose_cases(release, EvaluationConfig())


def test_a_limit_takes_as_many_of_each_kind_and_a_larger_one_goes_on(release: Release) -> None:
    pairs = read_pairs(release, "train")
    three, all_ = spread(pairs, 3), spread(pairs, None)
    assert {pair.kind for pair in three} == {"cross_view", "moving_camera", "same_view"}
    assert all_[:3] == three and len(all_) == len(pairs)


def test_the_paper_reconstructs_clips_and_moves_other_people(release: Release) -> None:
    cases = choose_cases(release, EvaluationConfig(protocol="paper", split="train"))
    reconstructed = [case for case in cases if case.kind == SELF]
    crossed = [case for case in cases if case.kind == CROSS]
    assert reconstructed and crossed and len(reconstructed) + len(crossed) == len(cases)
    assert all(c.has_truth and c.pair.driving_clip_id == c.target.clip_id for c in reconstructed)
    for case in crossed:
        assert not case.has_truth and case.gap is None
        assert case.target.clip_id.split()[:2] != case.pair.driving_clip_id.split()[:2]
    assert all("stage" not in case.target.clip_id for case in cases)  # these have moving cameras


def test_what_has_no_truth_is_measured_by_its_camera_alone(release: Release, tmp_path: Path) -> None:
    cases = choose_cases(release, EvaluationConfig(protocol="paper", split="train", limit=2))
    assert {case.kind for case in cases} == {SELF, CROSS}
    write_inputs(release, cases, tmp_path)
    result = evaluate(release, cases, {}, tmp_path, CONFIG, replace(MEASURES, name_moves=lambda *_: {"static"}))
    groups = {system["name"]: system["groups"]["kind"] for system in result["systems"]}
    assert groups[BASELINE][CROSS].keys() == {"clips", "camera"} and groups[BASELINE][CROSS]["camera"]["recall"] == 1
    assert groups["truth"].keys() == {SELF}


def test_nobody_is_a_stranger_where_all_are_one(release: Release) -> None:
    pairs = [replace(pair, subject="one") for pair in read_pairs(release, "train")[:3]]
    assert strangers(pairs) == []


def test_inputs_are_the_windows_of_the_pair(release: Release, cases: list[Case], out: Path) -> None:
    [case] = [case for case in cases if case.kind == "cross_view"][:1]
    known, name = Known(release), case.case_id
    whole = decode(release.blobs("clip_videos", "video", [case.target.clip_id])[0])
    start, step = case.pair.target_start, case.pair.frame_step
    true = known.frames(case.target)
    assert true.shape == (case.pair.num_frames, 64, 64, 3)
    # 96 x 96 to 64 x 64 by area averaging: means hardly change
    assert abs(true[3].mean() - whole[start + 3 * step].mean()) < 1
    assert np.array_equal(np.asarray(Image.open(out / "reference" / f"{name}.png")), true[0])
    still = decode(out / BASELINE / f"{name}.mp4").astype(int)
    assert np.abs(still - true[0]).mean() < 3
    assert {c["case"] for c in json.loads((out / "cases.json").read_text())} == {c.case_id for c in cases}


def test_clips_are_made_once_and_a_deleted_one_comes_back_the_same(
    release: Release, cases: list[Case], run: Path, out: Path
) -> None:
    folder, done = out / "ours", []
    check_checkpoint(run, "ours", out, release, CONFIG)
    make_clips(release, run, cases, folder, CONFIG, on_done=lambda: done.append(1))
    files = {file: file.stat().st_mtime_ns for file in sorted(folder.glob("*.mp4"))}
    assert [f.stem for f in files] == sorted(case.case_id for case in cases) and len(done) == len(cases)
    first, *others = files
    before = first.read_bytes()
    first.unlink()
    make_clips(release, run, cases, folder, CONFIG)
    assert first.read_bytes() == before
    assert all(file.stat().st_mtime_ns == files[file] for file in others)


def test_clips_of_another_model_or_seed_are_not_mixed(
    release: Release, run: Path, made: tuple[Release, Path], tmp_path: Path
) -> None:
    check_checkpoint(run, "ours", tmp_path, release, CONFIG)
    check_checkpoint(run, "ours", tmp_path, release, replace(CONFIG, limit=7))  # more clips with the same settings
    with pytest.raises(ValueError, match="made with another seed: use another --out"):
        check_checkpoint(run, "ours", tmp_path, release, replace(CONFIG, seed=1))
    other = small_pipeline(made[1], tmp_path / "other", seed=1)
    with pytest.raises(ValueError, match="made with another weights"):
        check_checkpoint(other, "ours", tmp_path, release, CONFIG)


def grey(frames: int, width: int, height: int) -> bytes:
    return encode(np.full((frames, height, width, 3), 99, np.uint8), Fraction(12))


def test_clips_of_others_are_fitted_or_refused(tmp_path: Path) -> None:
    (tmp_path / "large.mp4").write_bytes(grey(12, 128, 128))
    (tmp_path / "wide.mp4").write_bytes(grey(9, 128, 64))
    (tmp_path / "short.mp4").write_bytes(grey(5, 64, 64))
    clip = read_clip(tmp_path / "large.mp4", 9, (64, 64))
    assert clip is not None and clip.frames.shape == (9, 64, 64, 3)
    assert clip.note == "resized from 128 x 128, cut from 12 frames"
    assert read_clip(tmp_path / "none.mp4", 9, (64, 64)) is None
    with pytest.raises(ValueError, match=r"wide\.mp4 is 128 x 64, another aspect ratio than 64 x 64: crop it"):
        read_clip(tmp_path / "wide.mp4", 9, (64, 64))
    with pytest.raises(ValueError, match=r"short\.mp4: .*got 5; 9 frames are needed"):
        read_clip(tmp_path / "short.mp4", 9, (64, 64))


def test_the_truth_wins_over_the_reference_and_gaps_in_a_folder_are_named(
    release: Release, cases: list[Case], out: Path, tmp_path: Path
) -> None:
    for case in cases[1:]:
        (tmp_path / f"{case.case_id}.mp4").write_bytes((out / "truth" / f"{case.case_id}.mp4").read_bytes())
    result = evaluate(release, cases, {"rival": tmp_path}, out, CONFIG, MEASURES)
    systems = {system["name"]: system for system in result["systems"]}
    assert systems["rival"]["missing"] == [cases[0].case_id]
    assert systems["rival"]["all"]["ssim"]["mean"] > 0.97 > systems[BASELINE]["all"]["ssim"]["mean"]
    assert systems["rival"]["all"]["psnr"]["mean"] > systems[BASELINE]["all"]["psnr"]["mean"] + 5
    assert systems[BASELINE]["groups"]["gap"].keys() == {"0", "60"}
    assert f"rival lacks 1 clips, so its means are over fewer clips: {cases[0].case_id}." in result["notes"]
    written = json.loads((out / "evaluation.json").read_text())
    assert written == json.loads(json.dumps(result))
    text = (out / "evaluation.md").read_text()
    assert "| rival | 3 of 4 |" in text and "| absent | absent | absent |" in text
    assert "LPIPS is absent: no weights were given (--lpips)." in text


def test_distances_of_sets_come_from_the_weights_given(
    release: Release, cases: list[Case], out: Path, tmp_path: Path
) -> None:
    weights = Weights(inception=str(saved(Inception(), tmp_path / "a.pt")), fvd=str(saved(I3D(), tmp_path / "b.pt")))
    measures = Measures.of(weights, no_landmarks, lambda *_: set())
    result = evaluate(release, cases, {"true": out / "truth"}, out, CONFIG, measures)
    true, copy = (next(s for s in result["systems"] if s["name"] == name)["distances"] for name in ("true", BASELINE))
    assert copy["fid"]["n"] == 9 * len(cases) and copy["fvd"]["n"] == len(cases)
    assert true["fid"]["value"] < 0.2 * copy["fid"]["value"]
    assert true["fvd"]["value"] < 0.2 * copy["fvd"]["value"]
    assert set(result["absent"]) == {"lpips"}


def test_what_is_found_of_person_and_camera_is_compared_with_labels_and_prompt(
    release: Release, cases: list[Case], out: Path
) -> None:
    known = Known(release)
    [case] = [case for case in cases if case.kind == "cross_view"][:1]
    truth = known.truth(case.target)
    assert truth.height == pytest.approx(68 * 64 / 96) and truth.focal_over_width == pytest.approx(2000 / 96)

    def shifted(frames: np.ndarray, track: np.ndarray) -> np.ndarray:
        """Return joints shifted by a tenth of the person's height."""
        return truth.joints + np.array([truth.height / 10, 0, 0], np.float32)

    measures = replace(MEASURES, find_landmarks=shifted, name_moves=lambda *_: {"static", "zoom_in"})
    result = evaluate(release, [case], {}, out, CONFIG, measures)
    for system in result["systems"]:
        assert system["all"]["pose_error"]["mean"] == pytest.approx(0.1, abs=1e-3)
        assert system["all"]["landmarks"] == 1
        assert system["all"]["camera"] == {"recall": 1.0, "precision": 0.5, "n": 1, "not_measurable": 0}


def test_what_cannot_be_measured_is_no_number() -> None:
    nothing_seen = followed([({"static"}, set()), ({"pan_left"}, set())])
    assert nothing_seen == {"recall": None, "precision": None, "n": 0, "not_measurable": 2}
    one = mean_of([20.0, math.inf])
    assert one == {"mean": 20.0, "se": None, "n": 1, "infinite": 1}


def test_an_evaluation_of_equal_clips_is_json(
    release: Release, cases: list[Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("opendimo.training.evaluation.measure.psnr", lambda *_: math.inf)
    write_inputs(release, cases[:1], tmp_path)
    evaluate(release, cases[:1], {}, tmp_path, CONFIG, MEASURES)
    text = (tmp_path / "evaluation.json").read_text()
    assert "Infinity" not in text and '"psnr": "infinite"' in text
    assert "| 1 infinite |" in (tmp_path / "evaluation.md").read_text()


def test_numbers_go_onto_the_card_of_the_model(
    release: Release, cases: list[Case], out: Path, made: tuple[Release, Path], tmp_path: Path
) -> None:
    pipeline = find_pipeline(small_pipeline(made[1], tmp_path))
    summary = card_summary(evaluate(release, cases, {"ours": out / "truth"}, out, CONFIG, MEASURES), "ours")
    assert record_on_card(pipeline, summary) and record_on_card(pipeline, summary)
    facts, card = json.loads((pipeline / "training.json").read_text()), (pipeline / "README.md").read_text()
    assert facts["release"] == "small@1" and facts["evaluation"] == json.loads(json.dumps(summary))
    assert "## Evaluation" in card and "| ours | 4 |" in card and f"| {BASELINE} | 4 |" in card
    generator = json.loads((pipeline / "model_index.json").read_text())["transformer"][1]
    DiMoPipeline.from_pretrained(pipeline).save_pretrained(tmp_path / "again")
    again = (tmp_path / "again" / "README.md").read_text()
    assert again == card and f"| generator | {generator} |" in card


def test_a_model_that_we_did_not_train_keeps_its_card(made: tuple[Release, Path], tmp_path: Path) -> None:
    pipeline = find_pipeline(small_pipeline(made[1], tmp_path, training=None))
    before = (pipeline / "README.md").read_text()
    assert not record_on_card(pipeline, {}) and (pipeline / "README.md").read_text() == before


def test_folders_have_names_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "a" / "run").mkdir(parents=True)
    (tmp_path / "b" / "run").mkdir(parents=True)
    both = [str(tmp_path / name / "run") for name in "ab"]
    assert named_folders([both[0], f"other={both[1]}"], "checkpoint") == {"run": Path(both[0]), "other": Path(both[1])}
    with pytest.raises(ValueError, match="two systems are named run: give one of them another name"):
        named_folders(both, "checkpoint")
    with pytest.raises(ValueError, match="cannot be named 'truth'"):
        named_folders([f"truth={both[0]}"], "clips")
    with pytest.raises(ValueError, match="clips x: nowhere is not a folder"):
        named_folders(["x=nowhere"], "clips")


def test_a_pair_without_pose_labels_is_no_case_of_a_control_that_reads_them(
    release: Release, cases: list[Case], made: tuple[Release, Path], tmp_path: Path
) -> None:
    dimo = DiMo.from_base(made[1], replace(DiMoConfig.tiny(), control="smpl_tokens"))
    window = {"num_frames": 9, "frame_step": 2, "height": 64, "width": 64}
    DiMoPipeline.from_base(made[1], dimo, **window).save_pretrained(tmp_path / "pipeline")
    pair: Pair = replace(cases[0].pair, pose_id=None)
    write_inputs(release, cases[:2], tmp_path)
    make_clips(release, tmp_path, [replace(cases[0], pair=pair), cases[1]], tmp_path / "ours", CONFIG)
    assert [f.stem for f in (tmp_path / "ours").glob("*.mp4")] == [cases[1].case_id]
