"""Sections of the model card about the driver check and the evaluation."""

from typing import Any

from opendimo.model.pipeline.card import card_of, model_card

WINDOW = {"num_frames": 9, "frame_step": 2, "fps": 12.0, "height": 64, "width": 64}
CHECK = {
    "event": "driver_check", "step": 120, "stage": "mixed_view", "split": "test", "pairs": 16, "gap": 0.4,
    "loss": {"true": 0.3, "other": 0.42, "none": 0.36, "other_text": 0.31, "no_text": None},
    "by_kind": {"cross_view": {"true": 0.2, "other": 0.4}, "moving_camera": None}, "by_noise": [], "warning": None,
}  # fmt: skip


def card(**facts: Any) -> str:
    return model_card({**WINDOW, "training": facts}, "Wan", "Implicit")


def test_the_newest_driver_check_is_a_table_and_a_sentence() -> None:
    text = card(driver_check=CHECK)
    assert (
        "After 120 steps, on 16 held-out pairs: with the driver of another performance the loss is 40 % higher." in text
    )
    assert "| all | 0.3 | 0.42 | 0.36 | 0.31 | – |" in text and "| cross_view | 0.2 | 0.4 | – | – | – |" in text
    assert "moving_camera" not in text and "**" not in text


def test_a_model_that_ignores_its_driver_says_so() -> None:
    text = card(
        driver_check=CHECK | {"warning": "Drivers are ignored.", "split": "train", "note": "Nothing is held out."}
    )
    assert "**Drivers are ignored.**" in text and "**Nothing is held out.**" in text and "16 training pairs" in text


def test_what_was_not_measured_is_no_number() -> None:
    text = card(driver_check=CHECK | {"loss": None, "by_kind": None, "gap": None})
    assert "how much worse the loss is, was not measured" in text and "| all |" not in text


def test_without_a_check_and_an_evaluation_there_is_no_section_of_them() -> None:
    text = card()
    assert "follow" not in text.split("## Use")[0].replace("moves as", "") and "## Evaluation" not in text


def test_an_evaluation_is_its_table_and_notes() -> None:
    summary = {"release": "a@1", "about": "2 clips.", "columns": ["system", "SSIM"], "rows": [["x|y", "0.5"]],
               "notes": ["FID is absent."]}  # fmt: skip
    text = card(evaluation=summary)
    assert "On release a@1: 2 clips." in text and "| x\\|y | 0.5 |" in text and "- FID is absent." in text


def test_the_card_of_a_folder_names_its_classes() -> None:
    index = {**WINDOW, "training": None, "transformer": ["model.wan", "Wan"], "control": ["model.c", "Implicit"]}
    assert "| generator | Wan |" in card_of(index) and "| control | Implicit |" in card_of(index)
