"""Texts of both families are embedded as in diffusers' own pipelines, without padding."""

from pathlib import Path

import pytest
import torch
from diffusers import HunyuanVideo15Pipeline, WanPipeline

from opendimo.model.text import encode_prompt, load_text

PROMPTS = ["", "The camera pans  left.\nA person &amp; a dog wave.", "word " * 1500]


@pytest.mark.parametrize(("prompt", "was_cut"), zip(PROMPTS, (False, False, True), strict=True))
def test_wan_text_is_that_of_the_wan_pipeline(prompt: str, was_cut: bool, tiny_bases: dict[str, Path]) -> None:
    pipe = WanPipeline.from_pretrained(tiny_bases["wan"])
    with torch.no_grad():
        [expected] = pipe._get_t5_prompt_embeds(prompt, max_sequence_length=512)
    text = encode_prompt(*load_text(tiny_bases["wan"]), prompt)
    n = len(text.embedding)
    torch.testing.assert_close(text.embedding, expected[:n])
    assert not expected[n:].any()
    assert text.was_cut == was_cut == (n == 512)


@pytest.mark.parametrize(("prompt", "was_cut"), zip(PROMPTS, (False, False, True), strict=True))
def test_hunyuan_text_is_that_of_the_hunyuan_pipeline(prompt: str, was_cut: bool, tiny_bases: dict[str, Path]) -> None:
    absent = dict.fromkeys(("text_encoder_2", "tokenizer_2"))
    pipe = HunyuanVideo15Pipeline.from_pretrained(tiny_bases["hunyuan"], **absent)
    no_glyphs = {"prompt_embeds_2": torch.zeros(1, 256, 8), "prompt_embeds_mask_2": torch.zeros(1, 256)}
    with torch.no_grad():
        [expected], [mask], _, _ = pipe.encode_prompt(prompt, **no_glyphs)
    text = encode_prompt(*load_text(tiny_bases["hunyuan"]), prompt)
    torch.testing.assert_close(text.embedding, expected[mask.bool()])
    assert text.was_cut == was_cut == (len(text.embedding) == 1000)


def test_a_text_of_just_the_greatest_length_is_not_cut(family: str, tiny_bases: dict[str, Path]) -> None:
    parts, greatest = load_text(tiny_bases[family]), {"wan": 512, "hunyuan": 1000}[family]
    letters = "!" + "q" * greatest
    added = len(encode_prompt(*parts, "!").embedding) - 1
    for length in range(len(letters), 0, -1):
        prompt = letters[:length]
        tokens = len(parts[0](prompt, add_special_tokens=False).input_ids)
        if tokens + added == greatest:
            assert encode_prompt(*parts, prompt).was_cut is False
            assert encode_prompt(*parts, letters[: length + 1]).was_cut is True
            break
    else:
        pytest.fail("no text has that length")


def test_the_chat_template_is_cut_off_in_front_of_the_prompt(tiny_bases: dict[str, Path]) -> None:
    """The embeddings of a word and of an empty prompt differ by the word's tokens and a space for the empty prompt."""
    tokenizer, encoder = load_text(tiny_bases["hunyuan"])
    word = tokenizer("person", add_special_tokens=False).input_ids
    empty, one = (len(encode_prompt(tokenizer, encoder, prompt).embedding) for prompt in ("", "person"))
    end = tokenizer("<|im_end|>\n<|im_start|>assistant\n", add_special_tokens=False).input_ids
    assert (empty, one) == (1 + len(end), len(word) + len(end))


def test_a_folder_without_a_known_text_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"not a base model in the diffusers layout: .*/text_encoder/config\.json is missing"
    ):
        load_text(tmp_path)
    (tmp_path / "text_encoder").mkdir()
    (tmp_path / "text_encoder" / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(ValueError, match="is of unsupported type clip; supported are umt5, qwen2_5_vl_text"):
        load_text(tmp_path)
