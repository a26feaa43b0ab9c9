"""Latents equal those of diffusers; windows of different views start at the same source frames."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan, HunyuanVideo15Pipeline, WanPipeline

from opendimo.model.tiny import make_tiny_base
from opendimo.pipelines.cameras.terms import Term
from opendimo.pipelines.engine.revisions import current_captions
from opendimo.pipelines.latents.stage import LatentsConfig, LatentsStage, plan, window_starts
from opendimo.pipelines.latents.windows import Window, bucket_of, parsed_window
from opendimo.pipelines.pairs.stage import PairsConfig, build_pairs, gather
from opendimo.pipelines.quality.policy import Policy
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.media.video import centre_crop, decode, encode
from tests.rows import row

TEXT = "The camera pans  left.\nA person waves."
FRAMES = 40


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base model whose latents have a mean and standard deviation other than 0 and 1."""
    made = make_tiny_base(tmp_path_factory.mktemp("base"))
    vae = AutoencoderKLWan.from_pretrained(made / "vae")
    vae.register_to_config(latents_mean=[0.1 * c for c in range(8)], latents_std=[0.5 + 0.1 * c for c in range(8)])
    vae.save_pretrained(made / "vae")
    return made


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake with a wide clip with a caption, one too short for a window, and one without a caption."""
    made = Lake(tmp_path_factory.mktemp("lake"))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (FRAMES, 6, 8, 3), np.uint8).repeat(16, 1).repeat(16, 2)
    good = {"people": 1.0, "person_share": 1.0, "person_height": 0.7, "sharpness": 99.0, "exposure": 0.5}
    lengths = {"wide": FRAMES, "short": 10, "silent": FRAMES}
    clips = [
        row("clips", clip_id=c, source_id=c, kind="multiview", frames=n, video_sha256=c, name=c, **good)
        for c, n in lengths.items()
    ]
    videos = [row("clip_videos", clip_id=c, video=encode(images[:n], Fraction(24))) for c, n in lengths.items()]
    captions = [row("captions", caption_id=c, clip_id=c, content_sentence=TEXT) for c in ("wide", "short")]
    made.append("first", {"clips": clips, "clip_videos": videos, "captions": captions})
    return made


def encoded(lake: Lake, base: Path) -> list[dict[str, Any]]:
    """Return the rows of the wide clip."""
    stage = LatentsStage(lake.uri, LatentsConfig(str(base), max_windows=2))
    stage.setup()
    work = [w for w in plan(lake, stage, Policy()).all() if w.item_id == "wide"]
    return stage.run(work).rows["latents"]


def stored(row: dict[str, Any], values: str, shape: str) -> np.ndarray[Any, Any]:
    return np.frombuffer(row[values], np.float16).reshape(row[shape])


def test_latents_and_text_are_those_of_the_wan_pipeline(lake: Lake, base: Path) -> None:
    rows = encoded(lake, base)
    assert [r["start_frame"] for r in rows] == [0, 17]
    assert rows[0]["vae"].startswith("AutoencoderKLWan+UMT5EncoderModel:")
    pipe = WanPipeline.from_pretrained(base)

    text, _ = pipe.encode_prompt(TEXT, do_classifier_free_guidance=False, max_sequence_length=64)
    embedding = stored(rows[0], "text_embedding", "text_shape")
    n = len(embedding)
    assert np.allclose(embedding, text[0, :n].detach(), atol=2e-3) and not text[0, n:].any()

    pixels = pipe.video_processor.preprocess_video(second_window(lake))
    mean = torch.tensor(pipe.vae.config.latents_mean).view(1, 8, 1, 1, 1)
    std = torch.tensor(pipe.vae.config.latents_std).view(1, 8, 1, 1, 1)
    with torch.inference_mode():
        expected = (pipe.vae.encode(pixels).latent_dist.mode() - mean) / std
    latents = stored(rows[1], "latents", "shape")
    assert latents.shape == (8, 3, 16, 16)
    assert np.allclose(latents, expected[0], rtol=2e-3, atol=2e-3)


def test_a_hunyuan_base_gives_the_latents_and_text_of_its_own_pipeline(lake: Lake, tmp_path: Path) -> None:
    base = make_tiny_base(tmp_path, family="hunyuan")
    rows = encoded(lake, base)
    assert rows[0]["vae"].startswith("AutoencoderKLHunyuanVideo15+Qwen2_5_VLTextModel:")
    pipe = HunyuanVideo15Pipeline.from_pretrained(base, text_encoder_2=None, tokenizer_2=None)

    [text], [mask], _, _ = pipe.encode_prompt(
        TEXT, prompt_embeds_2=torch.zeros(1, 1, 8), prompt_embeds_mask_2=torch.zeros(1, 1)
    )
    embedding = stored(rows[0], "text_embedding", "text_shape")
    assert np.allclose(embedding, text[mask.bool()].detach(), atol=2e-3)

    with torch.inference_mode():
        mode = pipe.vae.encode(pipe.video_processor.preprocess_video(second_window(lake))).latent_dist.mode()
    expected = mode[0] * pipe.vae.config.scaling_factor
    assert np.allclose(stored(rows[1], "latents", "shape"), expected, rtol=2e-3, atol=2e-3)


def second_window(lake: Lake) -> torch.Tensor:
    """Return the pixels [1, T, 3, H, W] of the second window, in [0, 1]."""
    [video] = lake.blobs("clip_videos", "video", ["wide"])
    window = centre_crop(decode(video, start=17, stop=34, step=2), 64, 64)
    return torch.from_numpy(window)[None].permute(0, 1, 4, 2, 3).float() / 255


def test_each_window_has_the_text_of_its_own_frames(lake: Lake, base: Path) -> None:
    """The camera arcs in the first window and is static in the others."""
    stage = LatentsStage(lake.uri, LatentsConfig(str(base), Window(num_frames=5)))
    stage.setup()
    [work] = [w for w in plan(lake, stage, Policy()).all() if w.item_id == "wide"]
    terms = [Term(0, 9, "arc_left", "slow").row(), Term(9, FRAMES, "static", "slow").row()]
    caption = {"camera_terms": terms, "content_sentence": "A person waves.", "caption_hash": "of the caption"}
    rows = stage.run([replace(work, payload=replace(work.payload, **caption))]).rows["latents"]
    arcs = ["circles to the left around the subject slowly", "arcs left around the subject slowly"]
    arcs, stands = (
        [*arcs, "slowly orbits to the left around the subject"],
        ["is static", "remains static", "does not move"],
    )
    assert [r["start_frame"] for r in rows] == [0, 9, 18, 27]
    assert [r["text"].split("\n") for r in rows] == [
        [f"The camera {move}. A person waves." for move in wordings] for wordings in (arcs, stands, stands, stands)
    ]
    assert {r["caption_hash"] for r in rows} == {"of the caption"}
    embeddings = [r["text_embedding"] for r in rows]
    assert embeddings[0] != embeddings[1] == embeddings[2] == embeddings[3]
    *tokens, width = rows[0]["text_shape"]
    parts = np.split(np.frombuffer(embeddings[0], np.float16).reshape(-1, width), np.cumsum(tokens)[:-1])
    for text, part in zip(rows[0]["text"].split("\n"), parts, strict=True):
        assert np.array_equal(part, stage._encode_text(text))


def test_terms_and_content_of_a_caption_make_work_anew_and_its_wording_does_not(base: Path, tmp_path: Path) -> None:
    lake, stage = Lake(tmp_path), LatentsStage("", LatentsConfig(str(base)))
    clip = {"people": 1.0, "person_share": 1.0, "person_height": 0.7, "sharpness": 99.0, "exposure": 0.5}
    lake.append("clip", {"clips": [row("clips", clip_id="c", frames=FRAMES, video_sha256="c", **clip)]})

    def key(caption_id: str, end: int, content: str, **changes: str) -> str:
        caption = {"camera_terms": [Term(0, end, "pan_left", "slow").row()], "content_sentence": content}
        made = row("captions", caption_id=caption_id, clip_id="c", **caption, **changes)
        lake.append(caption_id, {"captions": [made]})
        return plan(lake, stage, Policy()).keys.to_pylist()[0]

    first = key("one", 40, "Ä person.")
    assert key("same", 40, "Ä person.", text="other words", captioner="other") == first
    assert len({first, key("shorter", 39, "Ä person."), key("content", 40, "A person.")}) == 3


def test_a_clip_too_short_for_a_window_is_a_reject_and_one_without_caption_waits(lake: Lake, base: Path) -> None:
    stage = LatentsStage(lake.uri, LatentsConfig(str(base)))
    work = sorted(plan(lake, stage, Policy(min_frames=5)).all(), key=lambda w: w.item_id)
    assert [w.item_id for w in work] == ["short", "wide"]
    [reject] = stage.run(work[:1]).rejects
    assert reject.error_class == "data" and "10 frames" in reject.message


def test_work_depends_on_weights_and_windows_but_not_on_where_the_weights_lie(
    lake: Lake, base: Path, tmp_path: Path
) -> None:
    moved, other = tmp_path / "moved", tmp_path / "other"
    moved.symlink_to(base)
    make_tiny_base(other, seed=1)

    def keys(**config: Any) -> list[str]:
        return [w.key for w in plan(lake, LatentsStage(lake.uri, LatentsConfig(**config)), Policy()).all()]

    assert keys(base=str(base)) == keys(base=str(moved))
    assert keys(base=str(base)) != keys(base=str(other))
    assert keys(base=str(base)) != keys(base=str(base), window=Window(frame_step=1))
    with pytest.raises(ValueError, match="diffusers layout"):
        keys(base=str(tmp_path))


def test_windows_of_views_begin_at_the_same_source_frames() -> None:
    for first, expected in ((0, [0, 17, 34]), (5, [17, 34]), (17, [17, 34, 51])):
        starts = window_starts({"kind": "unreal", "start_frame": first, "frames": 60}, Window(), 8)
        assert [first + start for start in starts] == expected
    assert window_starts({"kind": "internet", "start_frame": 5, "frames": 40}, Window(), 8) == [0, 17]


def test_the_caption_committed_last_counts(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    for run_id, caption_id, text in (("one", "z", "old"), ("two", "a", "new")):
        lake.append(run_id, {"captions": [row("captions", caption_id=caption_id, clip_id="c", text=text)]})
    assert current_captions(lake, ["text"])["text"].to_pylist() == ["new"]


BUCKETS = [Window(9, 2, 96, 64), Window(9, 2, 64, 96), Window(5, 2, 64, 96), Window(9, 2, 64, 64)]


@pytest.mark.parametrize(
    ("width", "height", "frames", "expected"),
    [
        (1920, 1080, 40, 0),
        (720, 1280, 40, 1),
        (720, 1280, 12, 2),  # too short for 9 frames at every second one
        (720, 1280, 3, 2),  # too short for any: the message names the shortest
        (500, 480, 40, 3),
    ],
)
def test_a_clip_is_encoded_in_the_longest_window_of_the_nearest_aspect(
    width: int, height: int, frames: int, expected: int
) -> None:
    assert bucket_of(width, height, frames, BUCKETS) == BUCKETS[expected]
    assert bucket_of(width, height, frames, BUCKETS[::-1]) == BUCKETS[expected]
    assert bucket_of(width, height, frames, BUCKETS[3:]) == BUCKETS[3]


def test_windows_are_written_as_sizes() -> None:
    assert parsed_window("480x832", Window(frame_step=3)) == Window(9, 3, 480, 832)
    assert parsed_window("480X832x81", Window()) == Window(81, 2, 480, 832)
    for wrong in ("480", "480x", "ax5", "1x2x3x4", "480x0", "-480x832"):
        with pytest.raises(ValueError, match="is not a window"):
            parsed_window(wrong, Window())


def test_buckets_change_work_keys_and_their_absence_does_not() -> None:
    assert "buckets" not in LatentsConfig("base").identity() and "buckets" not in PairsConfig("vae").identity()
    assert LatentsConfig("base", buckets=(Window(13),)).identity() != LatentsConfig("base").identity()


def test_portrait_and_landscape_clips_become_latents_and_pairs_of_their_own_shape(base: Path, tmp_path: Path) -> None:
    lake, rng = Lake(tmp_path), np.random.default_rng(0)
    sizes = {"portrait": (96, 160), "landscape": (160, 96)}
    good = {"people": 1.0, "person_share": 1.0, "person_height": 0.7, "sharpness": 99.0, "exposure": 0.5}
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in ("captures", "clips", "clip_videos", "captions")}
    for clip, (width, height) in sizes.items():
        images = rng.integers(0, 255, (20, height, width, 3), np.uint8)
        names = {"clip_id": clip, "source_id": clip, "capture_id": clip, "kind": "internet", "video_sha256": clip}
        size = {"frames": 20, "width": width, "height": height, "fps_num": 24, "fps_den": 1}
        track = np.tile(np.float32([10, 10, 50, 90]), (20, 1))
        rows["clips"].append(row("clips", **names, **size, **good, track=track))
        rows["clip_videos"].append(row("clip_videos", clip_id=clip, video=encode(images, Fraction(24))))
        rows["captures"].append(row("captures", capture_id=clip, sync_method="single"))
        rows["captions"].append(row("captions", caption_id=clip, clip_id=clip, content_sentence=TEXT))
    lake.append("clips", rows)
    landscape, portrait = Window(9, 2, 96, 64), Window(9, 2, 64, 96)

    def encoded(*buckets: Window) -> LatentsStage:
        stage = LatentsStage(lake.uri, LatentsConfig(str(base), landscape, buckets=buckets))
        stage.setup()
        lake.append(f"with {len(buckets)} buckets", stage.run(plan(lake, stage, Policy(min_frames=5)).all()).rows)
        return stage

    def paired(*buckets: Window) -> dict[str, tuple[int, int]]:
        inputs = gather(lake, PairsConfig(stage.vae, landscape, buckets=buckets), Policy(min_frames=5))
        assert len(build_pairs(inputs, PairsConfig(stage.vae))) == len(inputs.windows)
        return {w["clip_id"]: (w["width"], w["height"]) for w in inputs.windows}

    stage = encoded()
    assert paired() == {"portrait": (96, 64), "landscape": (96, 64)}
    encoded(portrait)  # the portrait clip then has rows of both shapes, of which only its bucket's is paired
    assert paired(portrait) == {"portrait": (64, 96), "landscape": (96, 64)}


def test_a_window_has_4k_plus_1_frames() -> None:
    with pytest.raises(ValueError, match=r"4k \+ 1"):
        Window(num_frames=8)
