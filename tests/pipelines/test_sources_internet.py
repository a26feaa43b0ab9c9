"""Folders and lists of single-view videos."""

import gzip
import json
import pickle
from fractions import Fraction

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from opendimo.pipelines.engine.loop import run_stage
from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.sources import SourcesConfig, SourcesStage, discover, plan
from opendimo.pipelines.sources.lists import read_lists
from opendimo.storage_schemas.ids import sha256_file, stable_id
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.media.video import encode


def ingest(path, config=None):
    config = config or SourcesConfig()
    works = discover("internet", path, config)
    outcome = SourcesStage("lake", config).run(works)
    outcome.check(works)
    return outcome


def reject_of(path):
    (reject,) = ingest(path).rejects
    return reject


@pytest.fixture
def folder(tmp_path):
    """Return a folder with a.mp4 and deep/b.mp4."""
    for name, shade in (("a.mp4", 60), ("deep/b.mp4", 160)):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encode(iter(np.full((4, 32, 48, 3), shade, np.uint8)), Fraction(30000, 1001)))
    return tmp_path


def test_real_folder(data, tmp_path):
    outcome = ingest(data / "internet")
    assert len(outcome.done) == 13 and not outcome.rejects
    lake = Lake(tmp_path)
    lake.append("run", outcome.rows)
    row = lake.read("sources", where="name = 'cups_hands_static.mp4'")[0]
    assert (row["width"], row["height"], row["fps_num"], row["fps_den"], row["frames"]) == (1280, 720, 30000, 1001, 300)
    assert row["K"] is None and row["view"] == "main"
    capture = lake.read("captures", where=f"capture_id = '{row['capture_id']}'")[0]
    assert capture["sync_method"] == "single" and capture["gravity_down"] is None


def test_ids_are_those_of_the_contract(folder):
    row = ingest(folder).rows["sources"][1]
    sha256 = sha256_file(folder / "deep" / "b.mp4")
    assert row["name"] == "deep/b.mp4"
    assert row["capture_id"] == stable_id("internet", sha256)
    assert row["source_id"] == stable_id("source", "internet", sha256, row["capture_id"], "main", "deep/b.mp4")


def test_files_that_are_no_videos_are_left_alone(folder):
    (folder / "notes.txt").write_text("x")
    (folder / ".hidden.mp4").write_bytes(b"x")
    assert len(discover("internet", folder, SourcesConfig())) == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text.mp4", b"this is no video at all\n" * 50, "not a readable video"),
        ("empty.mp4", b"", "the file is empty"),
        ("noise.mkv", bytes(range(256)) * 40, "not a readable video"),
    ],
)
def test_unusable_file_is_a_reject_with_reason(folder, name, content, message):
    (folder / name).write_bytes(content)
    outcome = ingest(folder)
    (reject,) = outcome.rejects
    assert len(outcome.done) == 2
    assert reject.name == name and reject.error_class == "data"
    assert message in reject.message and "Replace it" in reject.message


def test_corrupt_video_is_a_reject(folder):
    whole = (folder / "a.mp4").read_bytes()
    (folder / "a.mp4").write_bytes(whole[: len(whole) // 2])
    assert reject_of(folder).error_class == "data"


def test_file_that_vanished_after_listing_is_a_reject(folder):
    works = discover("internet", folder, SourcesConfig())
    (folder / "a.mp4").unlink()
    outcome = SourcesStage("lake", SourcesConfig()).run(works)
    assert [r.error_class for r in outcome.rejects] == ["permanent"] and len(outcome.done) == 1


def test_csv_list_with_rights(folder):
    (folder / "list.csv").write_text("Path,licence,attribution,subject\na.mp4,CC BY 4.0,Ann,ann\ndeep/b.mp4,,,\n")
    outcome = ingest(folder / "list.csv", SourcesConfig(licence="unknown"))
    a, b = sorted(outcome.rows["sources"], key=lambda row: row["name"])
    assert (a["licence"], a["attribution"], a["subject"]) == ("CC BY 4.0", "Ann", "ann")
    assert (b["licence"], b["attribution"], b["subject"]) == ("unknown", None, None)


def test_jsonl_and_parquet_lists(folder):
    (folder / "list.jsonl").write_text('{"uri": "a.mp4"}\n\n{"url": "deep/b.mp4", "subject": "ben"}\n')
    pq.write_table(pa.table({"path": [str(folder / "a.mp4"), "deep/b.mp4"], "extra": [1, 2]}), folder / "list.parquet")
    assert len(ingest(folder / "list.jsonl").done) == 2
    assert len(ingest(folder / "list.parquet").done) == 2


def test_bad_lines_are_rejects_and_the_rest_goes_on(folder):
    lines = [
        '{"uri": "a.mp4"}',
        "{oops",
        '{"uri": 7}',
        '{"uri": "a.mp4"}',
        '{"uri": "gone.mp4"}',
        '{"uri": "ftp://h/x"}',
    ]
    (folder / "list.jsonl").write_text("\n".join(lines))
    outcome = ingest(folder / "list.jsonl")
    assert len(outcome.done) == 1 and len(outcome.rejects) == 5
    text = "\n".join(reject.message for reject in outcome.rejects)
    assert "list.jsonl line 2: no path or URL" in text and "list.jsonl line 3: no path or URL" in text
    assert "line 4: the same as line 1" in text
    assert "gone.mp4: correct the path" in text and "cannot fetch ftp://" in text
    assert {reject.error_class for reject in outcome.rejects} == {"data"}


def test_relative_path_may_not_leave_the_folder_of_the_list(folder):
    (folder / "deep" / "list.csv").write_text("uri\n../a.mp4\n")
    assert "leaves the folder of the list" in reject_of(folder / "deep" / "list.csv").message


def test_columns_have_the_names_that_the_user_says(folder):
    header, line = "Video_Link,rights,Author,title,score", "a.mp4,CC0,Ann,A dance,3"
    (folder / "list.csv").write_text(f"{header}\n{line}\n")
    columns = ("url=video_link", "licence=rights", "attribution=AUTHOR")
    [row] = ingest(folder / "list.csv", SourcesConfig(columns=columns, keep=("title", "score"))).rows["sources"]
    assert (row["name"], row["licence"], row["attribution"]) == ("a.mp4", "CC0", "Ann")
    assert json.loads(row["extra"]) == {"title": "A dance", "score": "3"}


def test_a_column_of_an_unknown_meaning_is_an_error(folder):
    (folder / "list.csv").write_text("url\na.mp4\n")
    with pytest.raises(DataError, match="one of url, licence"):
        discover("internet", folder / "list.csv", SourcesConfig(columns=("rights=x",)))


def test_what_is_kept_is_part_of_the_work(folder):
    (folder / "list.csv").write_text("url,title\na.mp4,A dance\n")
    plain, kept = (discover("internet", folder / "list.csv", SourcesConfig(keep=k)) for k in ((), ("title",)))
    assert plain[0].key != kept[0].key
    assert plain[0].key == discover("internet", folder / "list.csv", SourcesConfig())[0].key


def test_content_that_the_list_did_not_mean_is_a_reject(folder):
    good, bad = sha256_file(folder / "a.mp4"), "0" * 64
    (folder / "list.csv").write_text(f"url,sha256\na.mp4,{good.upper()}\ndeep/b.mp4,{bad}\n")
    outcome = ingest(folder / "list.csv")
    assert [row["name"] for row in outcome.rows["sources"]] == ["a.mp4"]
    assert [reject.reason for reject in outcome.rejects] == ["wrong_content"]


def shards(folder, count=2):
    """Return a folder data/ beside the videos' folder, with shards that list both videos."""
    root = folder / "lists"
    (root / "data").mkdir(parents=True)
    for number, name in enumerate(["a.mp4", "deep/b.mp4"][:count]):
        shard = root / "data" / f"train-{number:05d}-of-00002.parquet"
        pq.write_table(pa.table({"video_url": [str(folder / name)], "license": ["CC0"]}), shard)
    return root


def test_a_folder_of_shards_is_one_list(folder):
    root = shards(folder)
    (root / "README.md").write_text("about")
    outcome = ingest(root, SourcesConfig(columns=("url=video_url",)))
    assert len(outcome.done) == 2 and {row["licence"] for row in outcome.rows["sources"]} == {"CC0"}


def test_a_broken_shard_costs_itself_and_repetition_is_found_across_shards(folder):
    root = shards(folder)
    (root / "data" / "train-00002-of-00002.parquet").write_bytes(b"broken")
    (root / "more.jsonl").write_text(json.dumps({"video_url": str(folder / "a.mp4")}))
    outcome = ingest(root, SourcesConfig(columns=("url=video_url",)))
    assert len(outcome.done) == 2
    assert sorted(reject.reason for reject in outcome.rejects) == ["bad_list", "repeated"]
    assert any("the same as data/train-00000-of-00002.parquet row 0" in reject.message for reject in outcome.rejects)


@pytest.mark.parametrize("splits", [False, True])
def test_a_dataset_that_hugging_face_saved(folder, splits):
    import datasets

    rows = {"link": [str(folder / "a.mp4"), str(folder / "deep" / "b.mp4")], "license": ["CC0", "CC0"], "n": [1, 2]}
    whole = datasets.Dataset.from_dict(rows)
    saved = datasets.DatasetDict({"train": whole.select([0]), "test": whole.select([1])}) if splits else whole
    saved.save_to_disk(str(folder / "saved"), **({} if splits else {"num_shards": 2}))
    outcome = ingest(folder / "saved", SourcesConfig(columns=("url=link",), keep=("n",)))
    found = {row["name"][-5:]: (row["licence"], row["extra"]) for row in outcome.rows["sources"]}
    assert found == {"a.mp4": ("CC0", '{"n": 1}'), "b.mp4": ("CC0", '{"n": 2}')}


def test_a_saved_dataset_may_not_name_files_elsewhere(folder):
    saved = folder / "saved"
    saved.mkdir()
    (saved / "state.json").write_text(json.dumps({"_data_files": [{"filename": "../a.mp4"}]}))
    with pytest.raises(DataError, match=r"\.\./a\.mp4 is missing"):
        discover("internet", saved, SourcesConfig())


def test_metadata_beside_videos_tells_about_them(folder):
    (folder / "metadata.csv").write_text("file_name,licence\ndeep/b.mp4,CC0\n")
    rows = ingest(folder).rows["sources"]
    assert {row["name"]: row["licence"] for row in rows} == {"a.mp4": None, "deep/b.mp4": "CC0"}


def test_a_file_is_listed_once_however_it_is_written(folder):
    (folder / "metadata.csv").write_text("file_name\na.mp4\n./a.mp4\ndeep//b.mp4\n")
    outcome = ingest(folder)
    assert len(outcome.done) == 2
    assert ["the same as metadata.csv line 2" in reject.message for reject in outcome.rejects] == [True]


def test_one_name_in_two_folders_of_lists_is_two_files(folder):
    for place, name in (("x", "a.mp4"), ("y", "deep/b.mp4")):
        (folder / place).mkdir()
        (folder / name).rename(folder / place / "one.video")
        (folder / place / "list.csv").write_text("path\none.video\n")
    outcome = ingest(folder)
    assert len(outcome.done) == 2 and not outcome.rejects


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("list.csv", "name\na.mp4\n", "no column named uri, url, path"),
        ("list.csv", "", "empty"),
        ("x.doc", "a", "neither"),
    ],
)
def test_list_that_cannot_be_read_is_an_error(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        discover("internet", tmp_path / name, SourcesConfig())


def test_binary_list_is_an_error(tmp_path):
    (tmp_path / "list.parquet").write_bytes(b"nothing")
    with pytest.raises(DataError, match="not a readable PARQUET list"):
        discover("internet", tmp_path / "list.parquet", SourcesConfig())


def test_unknown_kind_and_missing_path_are_errors(tmp_path):
    with pytest.raises(ValueError, match="unknown kind"):
        discover("dream", tmp_path, SourcesConfig())
    with pytest.raises(DataError, match="no such file or folder"):
        discover("internet", tmp_path / "gone", SourcesConfig())


def test_work_is_small_and_repeats(folder):
    works = discover("internet", folder, SourcesConfig())
    assert works == discover("internet", folder, SourcesConfig())
    assert len(pickle.dumps(works[0])) < 1000


WILD = ["naïve.mp4", "a b.mp4"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_list_is_read_in_the_dialects_people_have(tmp_path, delimiter, encoding, packed):
    text = "".join(delimiter.join(row) + "\r\n" for row in (["Title", "URL"], *(["clip", name] for name in WILD)))
    data = text.encode(encoding)
    path = tmp_path / ("list.csv.gz" if packed else "list.csv")
    path.write_bytes(gzip.compress(data) if packed else data)
    entries = read_lists([path], path, SourcesConfig())
    assert [(entry.place, entry.uri, entry.problem) for entry in entries] == [
        ("line 2", WILD[0], None),
        ("line 3", WILD[1], None),
    ]


def test_a_text_file_holds_an_address_per_line(tmp_path):
    path = tmp_path / "urls.txt"
    path.write_text("# dances\nhttp://h/a.mp4\n\n  http://h/b.mp4  \nclip, with comma.mp4\n")
    for config in (SourcesConfig(), SourcesConfig(columns=("url=video_link",))):
        entries = read_lists([path], path, config)
        assert [entry.uri for entry in entries] == ["http://h/a.mp4", "http://h/b.mp4", "clip, with comma.mp4"]


def test_an_unquoted_comma_shortens_no_address(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("url\nhttp://h/it/u=1,2&fm=15.mp4\n")
    (entry,) = read_lists([path], path, SourcesConfig())
    assert entry.uri == "http://h/it/u=1,2&fm=15.mp4"
    path.write_text("url,title\nhttp://h/a.mp4,one,,\nhttp://h/u=1,2.mp4,two\n")
    good, bad = read_lists([path], path, SourcesConfig())
    assert good.uri == "http://h/a.mp4" and good.problem is None
    assert "line 3: 3 values for 2 columns" in bad.problem and "quotes" in bad.problem


def test_spellings_of_one_address_are_one_item(tmp_path):
    path = tmp_path / "urls.txt"
    path.write_text("http://H/a b.mp4\nhttp://h/a%20b.mp4#t=10\nhttp://h/A%20b.mp4\n")
    entries = read_lists([path], path, SourcesConfig())
    assert [entry.reason for entry in entries] == [None, "repeated", None]


def test_a_text_file_in_a_folder_of_lists_is_not_taken_for_a_list(tmp_path):
    (tmp_path / "list.csv.gz").write_bytes(gzip.compress(b"url\nhttp://h/a.mp4\n"))
    (tmp_path / "licence.txt").write_text("All rights reserved\n")
    assert [work.payload.url for work in discover("internet", tmp_path, SourcesConfig())] == ["http://h/a.mp4"]


def test_the_example_with_a_comma_is_whole(data):
    path = data / "wild/lists/commas.csv"
    entries = read_lists([path], path, SourcesConfig())
    assert [entry.uri for entry in entries] == ["http://127.0.0.1:9/it/u=1,2&fm=15.mp4"]


def test_a_folder_says_what_it_did_not_take(folder, caplog):
    for name in ("notes.txt", "deep/one.JPG", "two.jpg", "noname", ".hidden"):
        (folder / name).write_bytes(b"")
    (folder / "phone.MTS").write_bytes((folder / "a.mp4").read_bytes())
    works = discover("internet", folder, SourcesConfig())
    assert "phone.MTS" in [work.name for work in works]
    (message,) = caplog.messages
    assert "not that of a video: .jpg 2" in message and ".txt 1" in message and "(4 in all)" in message


@pytest.mark.parametrize(
    ("suffix", "form", "codec"), [("gif", "gif", "gif"), ("3gp", "3gp", "mpeg4"), ("mts", "mpegts", "mpeg2video")]
)
def test_formats_of_phones_and_cameras_are_taken(tmp_path, suffix, form, codec):
    with av.open(str(tmp_path / f"a.{suffix}"), "w", format=form) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "rgb8" if codec == "gif" else "yuv420p"
        for k in range(10):
            frame = av.VideoFrame.from_ndarray(np.full((64, 96, 3), 20 * k, np.uint8), format="rgb24")
            container.mux(stream.encode(frame.reformat(format=stream.pix_fmt)))
        container.mux(stream.encode())
    (row,) = ingest(tmp_path).rows["sources"]
    assert (row["width"], row["height"]) == (96, 64)


def planned(lake, path, config=None):
    """Run what is open of a plan; return the number of planned and of open works."""
    stage = SourcesStage(lake.uri, config or SourcesConfig())
    works = plan(lake, stage, "internet", path).all()
    done = set(lake.column("sources", "work_key").to_pylist())
    account = run_stage(lake, stage, plan(lake, stage, "internet", path))
    assert account.done == account.inputs == len(works)
    return len(works), len([work for work in works if work.key not in done])


@pytest.mark.parametrize("first", ["whole", "part", "link"])
def test_a_file_is_one_source_by_whatever_folder_it_is_reached(folder, tmp_path_factory, first):
    other = tmp_path_factory.mktemp("other")
    (other / "link").symlink_to(folder)
    (other / "renamed").mkdir()
    (other / "renamed/c.mp4").symlink_to(folder / "a.mp4")
    (folder / "deep/list.csv").write_text("path,subject\nb.mp4,\n")
    paths = {"whole": folder, "part": folder / "deep", "link": other / "link", "list": folder / "deep/list.csv"}
    paths["renamed"] = other / "renamed/c.mp4"
    lake = Lake(other / "lake")
    planned(lake, paths[first])
    planned(lake, folder)
    for path in paths.values():
        assert planned(lake, path)[1] == 0
    assert lake.dataset("sources").count_rows() == 2
    assert planned(lake, folder / "deep", SourcesConfig(licence="CC0-1.0")) == (1, 1)
    licences = [row["licence"] for row in lake.read("sources", ["licence"])]
    assert sorted(map(str, licences)) == ["CC0-1.0", "None"]  # the newest statement holds, as for one folder


def test_copies_and_links_of_a_file_in_one_folder_stay_apart(folder, tmp_path_factory):
    (folder / "copy.mp4").write_bytes((folder / "a.mp4").read_bytes())
    (folder / "link.mp4").symlink_to(folder / "a.mp4")
    lake = Lake(tmp_path_factory.mktemp("lake"))
    assert planned(lake, folder) == (4, 4) and planned(lake, folder) == (4, 0)
    assert lake.dataset("sources").count_rows() == 4  # `clips` cuts one of them, and counts the others
