"""Malicious folders and lists: they cause rejects and nothing else."""

import gzip
import io
import json
import os
import shutil
import time
import zipfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from opendimo.pipelines.clips.cut import ClipsConfig, clips_of
from opendimo.pipelines.engine.stage import DataError, Outcome
from opendimo.pipelines.sources import SourcesConfig, SourcesStage, discover
from opendimo.pipelines.sources.probing import Prober, probe_safely
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.media.video import encode

GOOD = encode(iter(np.random.default_rng(3).integers(0, 255, (6, 48, 64, 3), np.uint8)), Fraction(25))


def ingest(path: Path, **options) -> Outcome:
    config = SourcesConfig(**options)
    works = discover("internet", path, config)
    outcome = SourcesStage("lake", config).run(works)
    outcome.check(works)
    return outcome


def reasons(outcome: Outcome) -> dict[str, tuple[str, str | None]]:
    return {reject.name: (reject.error_class, reject.reason) for reject in outcome.rejects}


@pytest.fixture
def folder(tmp_path):
    """Return a folder with one valid video, good.mp4."""
    root = tmp_path / "folder"
    root.mkdir()
    (root / "good.mp4").write_bytes(GOOD)
    return root


def zip_bomb() -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", b"\0" * 20_000_000)
    return data.getvalue()


def test_a_hostile_folder_costs_rejects_only(folder, tmp_path):
    outside = tmp_path / "outside.mp4"
    outside.write_bytes(GOOD)
    (folder / "link.mp4").symlink_to(outside)
    (folder / "loop.mp4").symlink_to(folder / "loop.mp4")
    (folder / "up").symlink_to(tmp_path)
    (folder / "line\nbreak\x1b[31m.mp4").write_bytes(b"noise" * 100)
    (folder / os.fsdecode(b"no\xfftext.mp4")).write_bytes(GOOD)
    (folder / f"{'x' * 240}.mp4").write_bytes(b"")
    (folder / "bomb.mp4").write_bytes(zip_bomb())
    (folder / "packed.mp4").write_bytes(gzip.compress(b"\0" * 1000))
    (folder / "tar.mp4").write_bytes(b"\0" * 257 + b"ustar" + b"\0" * 300)
    (folder / "page.mp4").write_bytes(b"\n <!DOCTYPE html><html></html>")
    (folder / "list.mp4").write_bytes(b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n")
    (folder / "concat.mp4").write_bytes(b"ffconcat version 1.0\nfile good.mp4\n")
    (folder / "pointer.mp4").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with open(folder / "sparse.mp4", "wb") as stream:
        stream.truncate(10 << 30)
    began = time.monotonic()
    outcome = ingest(folder)
    assert time.monotonic() - began < 20
    assert [row["name"] for row in outcome.rows["sources"]] == ["good.mp4"]
    found = reasons(outcome)
    expected = {
        "link.mp4": "escapes",
        "bomb.mp4": "archive",
        "packed.mp4": "archive",
        "tar.mp4": "archive",
        "page.mp4": "not_a_video",
        "list.mp4": "not_a_video",
        "concat.mp4": "not_a_video",
        "pointer.mp4": "not_a_video",
        "sparse.mp4": "too_large",
    }
    assert {name: found[name] for name in expected} == {name: ("data", word) for name, word in expected.items()}
    others = sorted(word for name, (_, word) in found.items() if name not in expected)
    assert others == ["bad_name", "empty", "not_a_video"]
    assert all(name.isprintable() and len(name) < 200 for name in found)
    assert all("\x1b" not in reject.message and "\n" not in reject.message for reject in outcome.rejects)
    Lake(tmp_path / "lake").append("run", outcome.rows)  # everything in it can be stored


def test_a_sparse_file_within_the_limit_is_no_video(folder):
    with open(folder / "sparse.mp4", "wb") as stream:
        stream.truncate(10 << 30)
    outcome = ingest(folder, max_bytes=20 << 30)
    assert reasons(outcome) == {"sparse.mp4": ("data", "not_a_video")}


def test_hostile_names_in_a_list_cost_rejects_only(folder, tmp_path):
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(GOOD)
    (folder / "link.mp4").symlink_to(secret)
    uris = [
        "good.mp4",
        "../secret.mp4",
        "a/../../secret.mp4",
        "link.mp4",
        "x" * 4096 + ".mp4",
        "deep/" * 1000 + "x.mp4",
        "x" * 100_000,
        "new\nline.mp4",
        "nul\0.mp4",
        "half\ud800.mp4",
        ".",
        "/dev/zero",
        "file:///etc/passwd",
        "http://",
        "http://h:99999999/",
        "http://[::1/",
        "concat:good.mp4|good.mp4",
    ]
    lines = [json.dumps({"url": uri, "licence": "half \udfff"}) for uri in uris]
    lines += ["[" * 100_000, '{"url": ' + '{"a":' * 50_000, '{"url": "' + "y" * 3_000_000 + '"}', '"text"', "7", "null"]
    (folder / "list.jsonl").write_text("\n".join(lines))
    outcome = ingest(folder / "list.jsonl")
    assert [row["name"] for row in outcome.rows["sources"]] == ["good.mp4"]
    assert len(outcome.rejects) == len(lines) - 1
    assert {reject.error_class for reject in outcome.rejects} == {"data"}
    words = {word for _, word in reasons(outcome).values()}
    assert words == {"escapes", "bad_name", "no_file", "bad_url", "no_url"}
    assert all(reject.name.isprintable() and len(reject.name) < 250 for reject in outcome.rejects)
    Lake(tmp_path / "lake").append("run", outcome.rows)


def test_a_hostile_csv_costs_rejects_only(folder):
    rows = [
        "url,licence",
        "good.mp4,CC0",
        "z" * 200_000 + ",x",
        "w" * 3_000_000,
        "a\0b.mp4,",
        ",,,,",
        '"',
        '"open,x',
        "y",
    ]
    (folder / "list.csv").write_text("\n".join(rows))
    outcome = ingest(folder / "list.csv")
    assert [row["licence"] for row in outcome.rows["sources"]] == ["CC0"]
    assert {reject.error_class for reject in outcome.rejects} == {"data"} and len(outcome.rejects) >= 4


def fuzzed(whole: bytes, number: int, random: np.random.Generator) -> bytes:
    """Return a video with its index at the end, corrupted in one of five ways."""
    broken, index = bytearray(whole), whole.find(b"moov")
    kind = number % 5
    if kind == 0:  # change bytes of the index
        for place in random.integers(index, len(whole), 12):
            broken[place] = int(random.integers(0, 256))
    elif kind == 1:  # make numbers in the index huge
        place = index + int(random.integers(0, len(whole) - index)) // 4 * 4
        broken[place : place + 4] = b"\xff\xff\xff\xff" if number % 2 else b"\x7f\xff\xff\xff"
    elif kind == 2:  # truncate the file
        del broken[int(random.integers(1, len(broken))) :]
    elif kind == 3:  # change the first bytes
        broken[: int(random.integers(4, 64))] = random.integers(0, 256, 8, np.uint8).tobytes()
    else:  # change bytes of the pictures
        for place in random.integers(1000, index, 40):
            broken[place] = int(random.integers(0, 256))
    return bytes(broken)


def somebody(source: dict) -> dict:
    """Add a true body in front of the camera, so that no person detection is needed."""
    width, height, frames = source["width"], source["height"], source["frames"]
    joints = np.zeros((1, frames, 22, 3), np.float32)
    joints[..., 1], joints[..., 2] = np.linspace(-0.8, 0.8, 22), 4
    K = np.array([[[width, 0, width / 2], [0, width, height / 2], [0, 0, 1]]], np.float32)
    return {"truth_joints": joints, "world_to_camera": np.eye(3, 4, dtype=np.float32)[None], "K": K, "metric": True}


def test_files_fuzzed_from_a_real_video_cost_rejects_only(data, tmp_path):
    """Every file is completed or rejected with a reason, without bugs, dead workers or a new process for each file.

    Files that can be opened yield clips or are rejected when they are cut.
    """
    whole = (data / "multiview" / "desk_board_4cam" / "cam_0.mp4").read_bytes()
    random = np.random.default_rng(11)
    folder = tmp_path / "fuzzed"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number:02d}.mp4").write_bytes(fuzzed(whole, number, random))
    outcome = ingest(folder)
    assert {reject.error_class for reject in outcome.rejects} <= {"data"}
    assert {reject.reason for reject in outcome.rejects} <= {"not_a_video", "crashes", "hangs", "memory", "empty"}
    assert len(outcome.done) + len(outcome.rejects) == 40 and len(outcome.rejects) >= 15
    ends = [ended(source) for source in outcome.rows["sources"][::2]]  # half of them, to save time
    assert min(ends.count("clips"), ends.count("rejected")) >= 2


def ended(source: dict) -> str:
    """Cut a source and return the result; errors other than data errors are raised."""
    try:
        rows = clips_of(source | somebody(source), ClipsConfig(short_side=90, analysis_side=90), None)
    except DataError:
        return "rejected"
    assert rows["clips"] and all(row["video"] for row in rows["clip_videos"])
    return "clips"


def test_a_file_on_which_the_reader_dies_or_hangs_costs_itself_only(tmp_path, monkeypatch):
    good = tmp_path / "good.mp4"
    good.write_bytes(GOOD)
    child = Path(__file__).with_name("deadly_reader.py")
    monkeypatch.setattr("opendimo.pipelines.sources.probing.CHILD", child)
    prober = Prober()
    try:
        for name, problem in (("dies", "crashes"), ("hangs", "hangs"), ("eats", "memory")):
            (tmp_path / f"{name}.mp4").write_bytes(GOOD)
            assert prober.ask(tmp_path / f"{name}.mp4", 1.0) == {"problem": problem}
            assert prober.ask(good, 10.0)["info"]["width"] == 64
    finally:
        prober.close()


def test_a_reader_that_was_killed_by_somebody_else_costs_nothing(tmp_path):
    (tmp_path / "good.mp4").write_bytes(GOOD)
    prober = Prober()
    try:
        expected = prober.ask(tmp_path / "good.mp4", 10.0)
        prober._process.kill()
        assert prober.ask(tmp_path / "good.mp4", 10.0) == expected and "info" in expected
    finally:
        prober.close()


def test_a_frame_that_is_too_large_is_refused_before_it_is_decoded(tmp_path):
    path = tmp_path / "wide.mov"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("qtrle", rate=25)  # this codec takes the size from the container
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb24"
        frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
        container.mux([*stream.encode(frame), *stream.encode()])
    patched = bytearray(path.read_bytes())
    at = patched.find(b"rle ", patched.find(b"stsd"))
    patched[at + 28 : at + 32] = b"\x2f\xff\x2f\xff"  # width and height of the sample entry
    path.write_bytes(patched)
    with pytest.raises(DataError, match="a frame has 150970369 pixels"):
        probe_safely(path)


def test_probing_many_files_starts_one_process(tmp_path):
    (tmp_path / "a.mp4").write_bytes(GOOD)
    probe_safely(tmp_path / "a.mp4")
    began = time.monotonic()
    for number in range(20):
        shutil.copy(tmp_path / "a.mp4", tmp_path / f"{number}.mp4")
        assert probe_safely(tmp_path / f"{number}.mp4").frames == 6
    assert time.monotonic() - began < 2.0
