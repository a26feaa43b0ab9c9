"""The same video packets in another container are detected, from files to verdicts."""

from pathlib import Path

import av

from opendimo.pipelines.clips.stage import ClipsConfig, ClipsStage
from opendimo.pipelines.clips.stage import plan as plan_clips
from opendimo.pipelines.engine.stage import Outcome, Work
from opendimo.pipelines.quality.policy import Policy
from opendimo.pipelines.quality.verdicts import verdicts as judge
from opendimo.pipelines.sources import SourcesConfig, SourcesStage, discover
from opendimo.storage_schemas.lake.lake import Lake
from tests.pipelines import duplicate_clips as made
from tests.pipelines.clip_sources import start_of


def remuxed(path: Path, out: Path) -> None:
    """Copy the packets of a video into another container."""
    with av.open(str(path)) as given, av.open(str(out), "w") as written:
        stream = given.streams.video[0]
        copy = written.add_stream_from_template(stream)
        for packet in given.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                written.mux(packet)


def test_a_re_mux_is_known_by_its_stream_and_one_of_both_is_kept(data: Path, tmp_path: Path) -> None:
    folder, lake = tmp_path / "videos", Lake(tmp_path / "lake")
    folder.mkdir()
    original = start_of(data / "internet/virtual_camera/static.mp4", folder, frames=36, height=240)
    remuxed(original, folder / "copy.mkv")
    config = SourcesConfig()
    store(lake, SourcesStage(lake.uri, config), discover("internet", folder, config))
    contents = lake.column("sources", "content_sha256").to_pylist()
    assert len(set(contents)) == 2  # the files differ
    cut = ClipsStage(lake.uri, ClipsConfig())
    cut.setup()
    store(lake, cut, plan_clips(lake, cut).all())
    found = {(row["clip_id"], row["other_clip_id"]): row for row in made.compare(lake)}
    first, second = sorted(lake.column("clips", "clip_id").to_pylist())
    assert set(found) == {(first, second), (second, first)}
    assert {(row["kind"], row["share"], row["offset_frames"]) for row in found.values()} == {("stream", 1.0, 0)}
    [kept] = {row["representative_id"] for row in found.values()}
    verdicts = judge(lake, Policy())
    reasons = dict(zip(verdicts["clip_id"].to_pylist(), verdicts["reason"].to_pylist(), strict=True))
    assert {clip for clip, reason in reasons.items() if reason == "duplicate"} == {first, second} - {kept}


def test_a_span_that_two_lists_name_is_kept_once(data: Path, tmp_path: Path) -> None:
    start_of(data / "internet/juggle_static_fullbody.mp4", tmp_path, frames=72, height=240)
    lake, config = Lake(tmp_path / "lake"), SourcesConfig()
    for name, spans in (("one", "[[0, 1.5]]"), ("two", "[[0, 1.5], [1.5, 3]]")):
        (tmp_path / f"{name}.csv").write_text(f'path,timestamp\njuggle_static_fullbody.mp4,"{spans}"\n')
        store(lake, SourcesStage(lake.uri, config), discover("internet", tmp_path / f"{name}.csv", config), name)
    cut = ClipsStage(lake.uri, ClipsConfig())
    cut.setup()
    works = plan_clips(lake, cut).all()
    assert len(works) == 2
    store(lake, cut, works)
    made.compare(lake)
    kept = judge(lake, Policy(min_frames=1))
    clips = {row["clip_id"]: row["start_frame"] for row in lake.read("clips", ["clip_id", "start_frame"])}
    reasons = zip(kept["clip_id"].to_pylist(), kept["reason"].to_pylist(), strict=True)
    assert sorted((clips[clip], reason or "kept") for clip, reason in reasons) == [
        (0, "duplicate"), (0, "kept"), (36, "kept"),
    ]  # fmt: skip


def store(lake: Lake, stage: SourcesStage | ClipsStage, works: list[Work], run: str | None = None) -> Outcome:
    """Run `works` and append the rows to the lake."""
    outcome = stage.run(works)
    outcome.check(works)
    assert not outcome.rejects, outcome.rejects
    lake.append(run or stage.name, outcome.rows)
    return outcome
