"""A release reads back bit for bit after any change of its lake, and damage is detected."""

from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.takedown import take_down
from opendimo.storage_schemas.releases.inventory import read_inventory
from opendimo.storage_schemas.releases.pins import PINNED
from opendimo.storage_schemas.releases.release import Release, create_release, open_release
from opendimo.storage_schemas.releases.verify import verify
from tests.rows import clip, clip_video, latent, pair, pose, source
from tests.storage_schemas.release_rows import NAMES, add, small_lake, video

FILES = ["_versions", "data", "_deletions", ".blob"]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return small_lake(tmp_path / "lake")


def content(release: Release) -> tuple[dict[str, pa.Table], list[bytes], list[bytes]]:
    tables = {table: release.scan(table) for table in PINNED}
    latents = tables["latents"]["latent_id"].to_pylist()
    return tables, release.blobs("clip_videos", "video", list(NAMES)), release.blobs("latents", "latents", latents)


def hammer(lake: Lake) -> None:
    """Change a lake in every usual way: new rows, replaced rows, labels, deletion, compaction, cleaning."""
    add(lake, "more", "z")
    lake.append("relabelled", {"sources": [source("a", licence="other")], "poses": [pose("a", "another", weight=0.9)],
                               "latents": [latent("a", "other latents", text="Another text.")]})  # fmt: skip
    lake.append("again", {"pairs": [pair("z"), pair("a", pair_id="new", pose_id="another")]})
    for table in PINNED:
        lake.dataset(table).delete("run_id = 'more'")
        lake.dataset(table).optimize.compact_files()
        lake.dataset(table).cleanup_old_versions(
            timedelta(0), delete_unverified=True, error_if_tagged_old_versions=False
        )


def test_a_hammered_lake_gives_the_release_back_bit_for_bit(lake: Lake) -> None:
    create_release(lake, "demo")
    before = content(open_release(lake.uri, "demo@1"))
    hammer(lake)
    after = content(open_release(lake.uri, "demo@1"))
    assert before == after
    assert after[1] == [video(name) for name in NAMES]
    findings = verify(lake, "demo@1", deep=True)
    assert (findings.damaged, findings.videos) == ([], 3)


def released_with_deletions(lake: Lake) -> list[str]:
    """Create a release that also pins deleted rows; return the names of its files."""
    lake.append("more", {"clips": [clip("y"), clip("z")]})
    lake.dataset("clips").delete("clip_id = 'z'")
    row = create_release(lake, "demo")
    return list(read_inventory(lake, "demo@1", row["inventory_sha256"]))


def test_every_flipped_byte_is_found_by_name(lake: Lake) -> None:
    names = released_with_deletions(lake)
    assert all(any(kind in name for name in names) for kind in FILES)
    assert verify(lake, "demo@1").damaged == []
    for name in names:
        path = lake.local / name
        stored = path.read_bytes()
        middle = len(stored) // 2
        path.write_bytes(stored[:middle] + bytes([stored[middle] ^ 1]) + stored[middle + 1 :])
        assert verify(lake, "demo@1").damaged == [f"{name} was changed"]
        path.write_bytes(stored)
    assert verify(lake, "demo@1").damaged == []


def test_a_missing_file_is_found_when_the_release_is_opened(lake: Lake) -> None:
    names = [name for name in released_with_deletions(lake) if "_versions" not in name]
    for name in names:
        path = lake.local / name
        path.rename(lake.local / "away")
        with pytest.raises(ValueError, match=r"release demo@1 was changed: .* is missing"):
            open_release(lake.uri, "demo@1")
        (lake.local / "away").rename(path)
    open_release(lake.uri, "demo@1")


def test_a_lost_version_is_found_when_the_release_is_opened(lake: Lake) -> None:
    create_release(lake, "demo")
    add(lake, "more", "z")
    [name] = [n for n in released_manifests(lake) if "/poses.lance/" in n]
    (lake.local / name).unlink()
    with pytest.raises(ValueError, match="release demo@1: the pinned version of poses is missing"):
        open_release(lake.uri, "demo@1")
    assert verify(lake, "demo@1").damaged == [f"{name} is missing"]


def released_manifests(lake: Lake) -> list[str]:
    [row] = lake.read("releases")
    return [name for name in read_inventory(lake, "demo@1", row["inventory_sha256"]) if "_versions" in name]


def test_a_moved_tag_is_found(lake: Lake) -> None:
    create_release(lake, "demo")
    add(lake, "more", "z")
    dataset = lake.dataset("clips")
    dataset.tags.update("release.demo.1", dataset.version)
    with pytest.raises(ValueError, match="clips differs from what was pinned"):
        open_release(lake.uri, "demo@1")
    assert "clips differs from what was pinned" in verify(lake, "demo@1").damaged[0]


def test_a_changed_list_of_files_is_found(lake: Lake) -> None:
    create_release(lake, "demo")
    name = "releases/demo/1/files.json"
    lake.store.write(name, (lake.store.read(name) or b"").replace(b"0", b"1"))
    with pytest.raises(ValueError, match=r"its list of files releases/demo/1/files.json was changed"):
        open_release(lake.uri, "demo@1")
    assert len(verify(lake, "demo@1").damaged) == 1


def test_a_video_that_is_not_what_was_stored_is_found_by_looking_deep(lake: Lake) -> None:
    lake.append("wrong", {"clip_videos": [clip_video("w", sha256="0" * 64)]})
    create_release(lake, "demo")
    assert verify(lake, "demo@1").damaged == []
    assert verify(lake, "demo@1", deep=True).damaged == ["the video of clip w does not match its stored hash"]


def test_what_was_taken_down_since_is_named_and_is_no_damage(lake: Lake) -> None:
    create_release(lake, "demo")
    take_down(lake, "content_sha256", "file of b", "asked for", "ann")
    findings = verify(lake, "demo@1")
    assert (findings.damaged, findings.taken_down, findings.taken_down_pairs) == ([], ["s-b"], 1)


@pytest.mark.slow
def test_verify_reads_an_object_store(s3: str) -> None:
    lake = small_lake(s3)
    create_release(lake, "demo")
    seen: list[tuple[int, int]] = []
    findings = verify(lake, "demo@1", deep=True, on_progress=lambda done, total: seen.append((done, total)))
    assert (findings.damaged, findings.videos) == ([], 3)
    assert seen[-1] == (findings.bytes, findings.bytes)
    lake.store.delete(name := next(n for n in lake.store.sizes("tables/clip_videos.lance") if n.endswith(".blob")))
    assert verify(lake, "demo@1").damaged == [f"{name} is missing"]
