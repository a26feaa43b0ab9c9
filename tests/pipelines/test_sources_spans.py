"""Lists of spans of long videos: Panda-70M, Koala-36M, ActivityNet and others."""

import csv
import json
from datetime import time, timedelta
from fractions import Fraction

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from opendimo.pipelines.clips.spans import Spans, frames_between
from opendimo.pipelines.sources import SourcesConfig, SourcesStage, discover
from opendimo.pipelines.sources.lists import read_lists
from opendimo.pipelines.sources.spans import seconds
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.media import reading
from tests.pipelines.test_cutting import ClipsConfig, counted, cut, made, number


def entries_of(path, text, **config):
    path.write_text(text)
    return read_lists([path], path, SourcesConfig(**config))


def times(entry):
    return [(span.start, span.end) for span in entry.spans]


@pytest.mark.parametrize(
    ("value", "right"),
    [
        (83.5, 83.5), ("83.5", 83.5), (" 12 ", 12), ("12s", 12), ("0:01:23.500", 83.5), ("1:23.5", 83.5),
        ("00:01:23,500", 83.5), ("75:30", 4530), ("10:00:00", 36000), ("1m23.5s", 83.5), ("2h", 7200),
        (timedelta(minutes=1), 60), (time(0, 1, 23, 500_000), 83.5),
    ],
)  # fmt: skip
def test_times_are_read_as_people_write_them(value, right):
    assert seconds(value) == right


@pytest.mark.parametrize(
    "value",
    [
        "",
        "x",
        "-1",
        -1,
        "1:75",
        "1:61:00",
        "00:01:23:12",
        "2023-05-01",
        1.7e9,
        float("nan"),
        "inf",
        True,
        None,
        10**400,
    ],
)
def test_what_is_no_time_is_an_error(value):
    with pytest.raises(ValueError, match="no time"):
        seconds(value)


def test_panda_has_a_row_per_video_with_lists_as_text(tmp_path):
    with (tmp_path / "panda.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["videoID", "url", "timestamp", "caption", "matching_score"])
        pairs = [["0:02:31.151", "0:02:34.320"], ["0:01:20.880", "0:01:23.983"]]
        writer.writerow(["x", "http://h/a.mp4", pairs, ["It's two.", "One."], [0.25, 0.5]])
    path = tmp_path / "panda.csv"
    (entry,) = read_lists([path], path, SourcesConfig(keep=("matching_score", "videoID")))
    assert times(entry) == [(80.88, 83.983), (151.151, 154.32)]
    assert [json.loads(span.extra) for span in entry.spans] == [
        {"caption": "One.", "matching_score": 0.5, "videoID": "x"},
        {"caption": "It's two.", "matching_score": 0.25, "videoID": "x"},
    ]


def test_rows_of_one_video_are_one_item_as_in_koala(tmp_path):
    path = tmp_path / "koala.csv"
    lines = [
        "videoID,url,timestamp,caption",
        """a_1,http://h/a.mp4,"['0:00:05.000', '0:00:09.000']",Second.""",
        """b_0,http://h/b.mp4,"['0:00:00.000', '0:00:01.000']",Other.""",
        """a_0,http://H/a.mp4#t=3,"['0:00:01.000', '0:00:05.000']",First.""",
    ]
    first, second = entries_of(path, "\n".join(lines))
    assert times(first) == [(1, 5), (5, 9)] and times(second) == [(0, 1)]
    assert [json.loads(span.extra)["caption"] for span in first.spans] == ["First.", "Second."]
    assert len(discover("internet", path, SourcesConfig())) == 2


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("url,start,end", "http://h/a.mp4,1.5,0:02.5"),
        ("url,start_time,end_time", "http://h/a.mp4,00:00:01.500,00:00:02.500"),
        ("url;Start Time;End Time", "http://h/a.mp4;1.5;2.5"),
        ("url,timestamp", "http://h/a.mp4,1.5-2.5"),
        ("url,timestamp", 'http://h/a.mp4,"1.5, 2.5"'),
        ("url,timestamp", 'http://h/a.mp4,"1.5,2.5"'),
        ("url,timestamp", 'http://h/a.mp4,"00:00:01,500 --> 00:00:02,500"'),
        ("url,timestamps", """http://h/a.mp4,"['0:01.5-0:02.5']\""""),
        ("url,span", "http://h/a.mp4,00:00:01.500 00:00:02.500"),
        ("url,timestamp", 'http://h/a.mp4,"(1.5, 2.5)"'),
        ("url,clips", 'http://h/a.mp4,"[[1.5, 2.5]]"'),
    ],
)
def test_spans_stand_in_columns_of_several_names(tmp_path, header, row):
    (entry,) = entries_of(tmp_path / "list.csv", f"{header}\n{row}\n")
    assert times(entry) == [(1.5, 2.5)] and entry.problem is None


def test_lists_in_json_and_parquet_as_activitynet_has_them(tmp_path):
    row = {"url": "http://h/a.mp4", "timestamps": [[0.5, 20.0], [10.0, 30.0]], "sentences": ["One.", "Two."]}
    path = tmp_path / "list.jsonl"
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "list.parquet")
    (entry,) = entries_of(path, json.dumps(row))
    (same,) = read_lists([tmp_path / "list.parquet"], tmp_path / "list.parquet", SourcesConfig())
    assert entry.spans == same.spans and times(entry) == [(0.5, 20), (10, 30)]
    assert [json.loads(span.extra) for span in entry.spans] == [{"caption": "One."}, {"caption": "Two."}]
    (entry,) = entries_of(path, json.dumps({"url": "http://h/a.mp4", "segments": [{"start": 1, "end": "0:03"}]}))
    assert times(entry) == [(1, 3)]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("http://h/a.mp4,5,3,", "the span 5-3 s ends before it begins"),
        ("http://h/a.mp4,x,3,", "'x' is no time in a video: give seconds or H:MM:SS.mmm"),
        ("http://h/a.mp4,5,,", "a start, but no end"),
        ("http://h/a.mp4,,,2023-05-01T10:00:00Z", "no pair of times.*--column timestamp=none"),
        ("http://h/a.mp4,,,1682928000", "no pair of times"),
        ("http://h/a.mp4,1,2,3-4", "leave one out"),
        ('http://h/a.mp4,,,"[[[[1, 2]]]]"', "no pair of times"),
    ],
)
def test_bad_spans_are_rejects_that_name_their_line(tmp_path, row, message):
    path = tmp_path / "list.csv"
    path.write_text(f"url,start,end,timestamp\n{row}\nhttp://h/b.mp4,1,2,\nhttp://h/c.mp4,,,\n")
    bad, good, whole = read_lists([path], path, SourcesConfig())
    assert bad.reason == "bad_span" and times(good) == [(1, 2)] and whole.spans == () and whole.problem is None
    with pytest.raises(ValueError, match=f"list.csv line 2: .*{message}"):
        raise ValueError(bad.problem)
    assert len(discover("internet", path, SourcesConfig())) == 3  # so it is accounted for


def test_a_bad_or_repeated_span_costs_itself_only(tmp_path):
    text = """url,timestamp,caption\nhttp://h/a.mp4,"[[1, 2], [9, 3], [4, 5], [1, 2]]","['a', 'b', 'c', 'd']"\n"""
    path = tmp_path / "list.csv"
    problems = [entry for entry in entries_of(path, text) if entry.problem]
    (entry,) = (entry for entry in entries_of(path, text) if not entry.problem)
    assert [(span.start, json.loads(span.extra)["caption"]) for span in entry.spans] == [(1, "a"), (4, "c")]
    assert [problem.reason for problem in problems] == ["bad_span", "repeated"]
    text = """url,timestamp,caption\nhttp://h/a.mp4,"[[1, 2], [4, 5]]","['a', 'b', 'c']"\n"""
    (entry,) = entries_of(path, text)
    assert "line 2: 2 spans, but 3 captions" in entry.problem


def test_a_column_that_holds_no_spans_can_be_left_out(tmp_path):
    text = "url,timestamp\nhttp://h/a.mp4,2023-05-01\n"
    (entry,) = entries_of(tmp_path / "list.csv", text, columns=("timestamp=none",))
    assert entry.problem is None and entry.spans == ()
    text = "url,from,to\nhttp://h/a.mp4,1,2\n"
    (entry,) = entries_of(tmp_path / "list.csv", text, columns=("start=from", "end=to"))
    assert times(entry) == [(1, 2)]


def test_lists_without_spans_keep_their_work(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("url,caption\nhttp://h/a.mp4,A dance\n")
    (work,) = discover("internet", path, SourcesConfig())
    assert work.key == "8962ffa89fe35adfe3b96ac0fdb26558"


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30000, 1001), Fraction(24000, 1001), Fraction(60)])
def test_times_rounded_to_milliseconds_give_their_frames_back(fps):
    for start, stop in ((0, 1), (7, 300), (880, 1212), (100_003, 100_400)):
        assert frames_between(round(start / float(fps), 3), round(stop / float(fps), 3), fps) == range(start, stop)


def test_overlapping_spans_are_open_together():
    stated = [{"start": 2.0, "end": 4.0}, {"start": 0.0, "end": 3.0}, {"start": 6.0, "end": 7.0}]
    spans = Spans(stated, Fraction(1))
    assert [sorted(spans.at(k)) for k in range(8)] == [[1], [1], [0, 1], [0], [], [], [2], []]
    assert spans.stop == 7


def test_only_the_spans_are_cut_in_one_pass_with_overlaps(tmp_path, monkeypatch):
    path, whole, passes = made(tmp_path / "a.mp4", counted(200)), reading.stored_frames, []

    def stored_frames(source):
        passes.append(0)
        for frame in whole(source):
            passes[-1] += 1
            yield frame

    monkeypatch.setattr(reading, "stored_frames", stored_frames)
    stated = [(1.0, 2.0), (1.6, 4.0), (6.0, 6.4)]
    clips = cut(path, ClipsConfig(), spans=[{"start": a, "end": b, "extra": None} for a, b in stated])
    found = {clip["span"]: (clip["start_frame"], clip["end_frame"]) for clip in clips}
    assert found == {0: (25, 50), 1: (40, 100), 2: (150, 160)}
    for clip in clips:
        shown = [number(picture) for picture in clip["pictures"]]
        assert shown == list(range(clip["start_frame"], clip["end_frame"]))
    assert len(passes) == 1 and passes[0] <= 163  # decoded once, and not beyond the last span
    assert len({clip["clip_id"] for clip in clips}) == 3


def test_a_span_without_a_clip_is_named(tmp_path, caplog):
    path = made(tmp_path / "a.mp4", counted(50))
    stated = [{"start": 0.0, "end": 1.0, "extra": None}, {"start": 10.0, "end": 12.0, "extra": None}]
    assert len(cut(path, ClipsConfig(), spans=stated)) == 1
    assert "a: no clip of 10-12 s: begins after the end of the video" in caplog.text
    with pytest.raises(ValueError, match="no clip of its spans: 10-12 s"):
        cut(path, ClipsConfig(), spans=stated[1:])


def test_sources_hold_the_spans_and_captions(tmp_path):
    made(tmp_path / "a.mp4", counted(30))
    rows = []
    for name, line in (("one", "a.mp4,0,1,Jumps."), ("same", "a.mp4,0,1,Leaps."), ("two", "a.mp4,0.5,1,Lands.")):
        (tmp_path / f"{name}.csv").write_text(f"path,start,end,caption\n{line}\n")
        works = discover("internet", tmp_path / f"{name}.csv", SourcesConfig())
        rows += SourcesStage("lake", SourcesConfig()).run(works).rows["sources"]
    one, same, two = rows
    assert one["source_id"] == same["source_id"] != two["source_id"]  # other spans never replace these
    lake = Lake(tmp_path / "lake")
    lake.append("run", {"sources": [row | {"work_key": "w"} for row in (one, two)], "captures": []})
    stored = lake.read("sources", ["spans"], f"source_id = '{one['source_id']}'")
    assert stored[0]["spans"] == [{"start": 0.0, "end": 1.0, "extra": '{"caption": "Jumps."}'}]
