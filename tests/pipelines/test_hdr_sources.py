"""HDR from files to verdicts: columns of the source, clips in SDR, a score that a policy limits."""

import io
from pathlib import Path

import av
import numpy as np
import pytest

from opendimo.pipelines.clips.cut import ClipsConfig, clips_of
from opendimo.pipelines.people.detector import Detector
from opendimo.pipelines.quality.policy import Policy
from opendimo.pipelines.sources import SourcesConfig, SourcesStage, discover
from opendimo.storage_schemas.media import video
from tests.pipelines.clip_sources import source_row, verdict
from tests.storage_schemas.test_sdr import HLG, PQ, TAGS, flat, frame_of, write


@pytest.mark.parametrize("copy", [False, True])
def test_a_clip_of_hlg_looks_as_the_sdr_it_was_made_of(data: Path, copy: bool) -> None:
    row = source_row(data / "wild/colours/hlg_10bit.mov")
    config = ClipsConfig(copy=copy)
    rows = clips_of(row, config, Detector(config.people.detector))
    [clip], [stored] = rows["clips"], rows["clip_videos"]
    assert abs(video.decode(bytes(stored["video"])).mean() - 88) < 3  # its mean as it was made; 58 if not converted
    with av.open(io.BytesIO(bytes(stored["video"]))) as container:
        frame = next(container.decode(video=0))
    assert frame.format.name == "yuv420p" and [getattr(frame, tag) for tag in TAGS] == [1, 1, 1, 1]
    assert clip["encoder"] == "libx264" and 0 < clip["hdr_share"] < 0.02
    assert verdict(clip, Policy()) is None
    assert verdict(clip, Policy(max_hdr_share=0)) == "hdr" and verdict(clip, Policy(max_hdr_share=0.5)) is None


def test_a_clip_of_sdr_has_no_share(data: Path) -> None:
    row = source_row(data / "wild/containers/hflip_matrix.mov")
    [clip] = clips_of(row, ClipsConfig(), Detector(ClipsConfig().people.detector))["clips"]
    assert clip.get("hdr_share") is None and verdict(clip, Policy(max_hdr_share=0)) is None


def test_sources_know_their_colours_and_refuse_by_name(tmp_path: Path) -> None:
    for name, transfer, full in (("hlg", HLG, False), ("pq", PQ, True)):
        write(tmp_path / f"{name}.mkv", "ffv1", frame_of(flat(30), transfer, "yuv420p10le", full))
    unknown = frame_of(flat(30), PQ, "yuv420p10le")
    unknown.colorspace = 14
    write(tmp_path / "ictcp.mkv", "ffv1", unknown)
    config = SourcesConfig()
    outcome = SourcesStage("lake", config).run(discover("internet", tmp_path, config))
    names = ("colour_transfer", "colour_primaries", "colour_range")
    assert {row["name"]: [row[name] for name in names] for row in outcome.rows["sources"]} == {
        "hlg.mkv": ["arib-std-b67", "bt2020", "limited"], "pq.mkv": ["smpte2084", "bt2020", "full"],
    }  # fmt: skip
    [reject] = outcome.rejects
    assert (reject.reason, reject.error_class) == ("colours", "data") and "ICtCp" in reject.message


def test_a_driving_video_in_hdr_is_read_as_sdr(tmp_path: Path) -> None:
    from opendimo.pipelines.generation.driving import read_video

    path = write(tmp_path / "a.mkv", "ffv1", frame_of(flat(26), PQ, "yuv420p10le"))
    images, _ = read_video(path, 2)
    assert np.abs(images.astype(int) - round(255 * 0.26 ** (1 / 2.4))).max() <= 2
