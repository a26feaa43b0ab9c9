"""Tests of how the report shows driver checks and an evaluation; input files are written as `dimo train` and
`dimo evaluate` write them."""

import json
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from opendimo.pipelines.report import write_report
from opendimo.pipelines.report.driver import read_driver_checks
from opendimo.pipelines.report.evaluation import Embedded, read_evaluation, some_cases, write_evaluation_page
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.media.video import encode, probe
from tests.pipelines.report_lake import HOSTILE, clip_row, film, run
from tests.pipelines.test_report import Tags, text_of

LOSSES = {"true": 0.30, "other": 0.42, "none": 0.36, "other_text": 0.31, "no_text": None}


def check(step: int, **changes: Any) -> dict[str, Any]:
    """Return a `driver_check` record of metrics.jsonl."""
    record = {
        "event": "driver_check", "step": step, "stage": "mixed_view", "split": "test", "pairs": 16, "loss": LOSSES,
        "by_kind": {"cross_view": LOSSES | {"other": 0.5}}, "by_noise": [{"sigma": 0.1, **LOSSES, "none": 0.77}],
        "gap": 0.40, "warning": None,
    }  # fmt: skip
    return record | changes


def write_run(folder: Path, *records: dict[str, Any]) -> Path:
    folder.mkdir()
    step = {"step": 1, "stage": "mixed_view", "loss": 0.5, "geometry_weight": 0.0}
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in [step, *records]))
    return folder


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake(tmp_path_factory.mktemp("lake") / "lake")
    run(lake, "clips", {"clips": [clip_row("a", video_sha256=None, track=None)]}, 1)
    return lake


def section(lake: Lake, out: Path, name: str, **options: Any) -> str:
    source = write_report(lake.uri, out, **options).read_text()
    return source[source.index(f'id="{name}"') :].split("</section>")[0]


def test_the_newest_check_is_shown_in_numbers_and_all_as_a_curve(lake: Lake, tmp_path: Path) -> None:
    training = write_run(tmp_path / "run", check(60, gap=0.01), check(120))
    source = section(lake, tmp_path / "out", "driver", training=training)
    text = text_of(source)
    assert "Does the model follow its driver?" in text
    assert "After 120 steps, on 16 held-out pairs" in text and "the loss is 40 % higher" in text
    assert "all 0.3 0.42 0.36 0.31 –" in text and "cross view 0.3 0.5 0.36 0.31 –" in text
    assert "0.1 0.3 0.42 0.77 0.31 –" in text
    assert source.count("<circle") == 2 * 3 + 2 and 'class="warning"' not in source


def test_sample_videos_of_the_first_and_the_newest_steps_are_shown(lake: Lake, tmp_path: Path) -> None:
    training = write_run(tmp_path / "run", check(60))
    (training / "samples").mkdir()
    for step in range(10, 110, 10):
        (training / "samples" / f"step-{step:06d}.mp4").write_bytes(film(slower=step))
    (training / "samples" / ".step-000200.mp4.part").write_bytes(b"unfinished")
    source = section(lake, tmp_path / "out", "driver", training=training)
    assert re.findall(r"step (\d+)</figcaption>", source) == ["10", "40", "70", "100"]
    links = re.findall(r'<video src="(.*?)"', source)
    expected = [(training / "samples" / f"step-{step:06d}.mp4").read_bytes() for step in (10, 40, 70, 100)]
    assert [(tmp_path / "out" / link).read_bytes() for link in links] == expected


def test_a_warning_and_where_pairs_were_trained_on_are_said(lake: Lake, tmp_path: Path) -> None:
    bad = check(
        9, split="train", note="the release holds out nothing", warning=f"drivers are ignored {HOSTILE}", gap=0.0
    )
    text = text_of(section(lake, tmp_path / "out", "driver", training=write_run(tmp_path / "run", bad)))
    assert "Warning. drivers are ignored <script>" in text and "16 training pairs" in text
    assert "the release holds out nothing" in text


def test_a_check_that_could_measure_nothing_is_shown_as_such(lake: Lake, tmp_path: Path) -> None:
    empty = check(9, loss=None, by_kind=None, by_noise=None, gap=None)
    found = read_driver_checks(write_run(tmp_path / "run", empty))
    assert found is not None and not found.drawings and not found.by_kind and found.gap is None
    text = text_of(section(lake, tmp_path / "out", "driver", training=tmp_path / "run"))
    assert "the gap between the true and another driver was not measured" in text


def test_a_run_without_checks_says_so(lake: Lake, tmp_path: Path) -> None:
    training = write_run(tmp_path / "run")
    assert read_driver_checks(training) is None and read_driver_checks(tmp_path) is None
    text = text_of(section(lake, tmp_path / "out", "driver", training=training))
    assert "The run has no driver check yet." in text


def test_gaps_below_zero_are_on_the_drawing(tmp_path: Path) -> None:
    found = read_driver_checks(write_run(tmp_path / "run", check(10, gap=-0.2), check(20, gap=0.4)))
    assert found is not None
    [(_, _, [(_, low), (_, high)])] = found.drawings[1].lines
    assert 26 <= high < low <= 218  # SVG y increases downwards


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    """Write an evaluation of two cases, one without ground truth."""
    folder = tmp_path / "evaluation"
    facts = {"gap_degrees": 61.2, "gap": "60", "prompt": HOSTILE, "camera_asked": [], "has_truth": True}
    cases = [
        {"case": "one", "kind": "cross_view", **facts},
        {"case": "two", "kind": "cross_identity", **facts, "gap_degrees": None, "gap": "unknown"},
    ]
    for name in ("driver", "ours", "copy_reference", "truth"):
        (folder / name).mkdir(parents=True)
        for case in ("one", "two"):
            if (name, case) != ("truth", "two"):
                (folder / name / f"{case}.mp4").write_bytes(film())
    (folder / "reference").mkdir()
    for case in ("one", "two"):
        Image.new("RGB", (96, 64), (200, 0, 0)).save(folder / "reference" / f"{case}.png")
    rows = [{"case": "one", "ssim": 0.5, "psnr": "infinite", "pose_error": 0.25, "camera_seen": []}]
    systems = [
        {"name": name, "folder": name, "clips": rows if name == "ours" else [], "missing": [], "notes": []}
        for name in ("ours", "copy_reference")
    ]
    tables = [{"title": "All clips", "columns": ["system", "SSIM"], "rows": [["ours", "0.500"], [HOSTILE, "–"]]}]
    result = {
        "release": "small@1", "about": "2 held-out clips.", "cases": cases, "systems": [*systems, {"name": "truth"}],
        "tables": tables, "notes": ["LPIPS is absent: no weights were given (--lpips)."],
    }  # fmt: skip
    (folder / "evaluation.json").write_text(json.dumps(result))
    return folder


def test_the_page_of_an_evaluation_needs_no_other_file(evaluation: Path) -> None:
    source = write_evaluation_page(evaluation).read_text()
    tags = Tags(source)
    assert tags.links and all(re.match("data:(image/jpeg|video/mp4);base64,", link) for link in tags.links)
    assert (
        tags.tags["video"] == 4 + 3 and tags.tags["img"] == 2
    )  # driver, ours, truth, copy; the second case has no truth
    assert tags.tags["script"] == 0 and not tags.handlers
    text = text_of(source)
    assert "On release small@1 : 2 held-out clips." in text and "LPIPS is absent" in text
    assert "SSIM 0.500, PSNR infinite, pose off by 25 % of height" in text
    assert text.count("<script>alert('clip')</script>") == 3  # two prompts and a system, as escaped text


def test_figures_are_in_the_order_in_which_they_are_compared(evaluation: Path) -> None:
    shown = {case["case"]: figures for case, figures in read_evaluation(evaluation, Embedded()).cases}
    assert [f.name for f in shown["one"]] == ["reference", "driver", "ours", "truth", "copy reference"]
    assert [f.name for f in shown["two"]] == ["reference", "driver", "ours", "copy reference"]


def test_the_report_shows_an_evaluation_with_links_beside_the_page(
    lake: Lake, evaluation: Path, tmp_path: Path
) -> None:
    source = section(lake, tmp_path / "out", "evaluation", evaluation=evaluation)
    assert "61.2° between the cameras" in text_of(source)
    links = Tags(source).links
    assert links and all((tmp_path / "out" / link).is_file() for link in links)


def test_a_folder_without_an_evaluation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no evaluation\.json: run `dimo evaluate"):
        read_evaluation(tmp_path, Embedded())


def test_large_clips_are_shown_small(evaluation: Path) -> None:
    large = encode(np.full((5, 480, 832, 3), 99, np.uint8), Fraction(12))
    (evaluation / "driver" / "one.mp4").write_bytes(large)
    kept: list[bytes] = []

    class Shelf(Embedded):
        def video(self, content: object, make: Any) -> str:
            kept.append(make())
            return ""

    read_evaluation(evaluation, Shelf())
    sizes = {(facts.width, facts.height) for facts in map(probe, kept)}
    assert sizes == {(416, 240), (96, 64)}


def test_a_few_cases_of_every_kind_and_gap_are_shown() -> None:
    cases = [{"case": f"{k}", "kind": kind, "gap": "0", "gap_degrees": 0} for k, kind in enumerate("aaaaaaaaaab")]
    assert [case["case"] for case in some_cases(cases)] == ["0", "1", "2", "3", "4", "10"]
