"""Numbered images read like a video: order, gaps, and files that are not images."""

import numpy as np
import pytest
from PIL import Image

from opendimo.storage_schemas.media import video
from opendimo.storage_schemas.media.image_sequence import is_pattern, open_sequence, pattern_of


def write(folder, names, size=(8, 6), mode="RGB"):
    for place, name in enumerate(names):
        Image.new(mode, size, place if mode == "L" else (place,) * len(mode)).save(folder / name)


def test_pictures_come_in_the_order_of_their_numbers(tmp_path):
    write(tmp_path, [f"shot.{n}.png" for n in (8, 9, 10, 11)])
    pattern = pattern_of(tmp_path)
    assert pattern == tmp_path / "shot.%d.png" and is_pattern(pattern)
    assert [int(image[0, 0, 0]) for image in video.frames(pattern)] == [0, 1, 2, 3]


def test_video_functions_read_a_pattern(tmp_path):
    write(tmp_path, [f"a_{n:04d}.jpg" for n in range(5)], (8, 6))
    pattern = str(tmp_path / "a_%04d.jpg")
    assert video.decode(pattern, start=1, stop=5, step=2, size=(4, 3)).shape == (2, 3, 4, 3)
    assert next(video.frames(pattern, rotation=90)).shape == (8, 6, 3)


def test_every_fifth_picture_is_a_sequence(tmp_path):
    write(tmp_path, [f"seq_000001_{n:04d}.png" for n in (0, 5, 10, 15)])
    sequence = open_sequence(pattern_of(tmp_path))
    assert sequence.numbers == range(0, 16, 5)
    assert sequence.facts() == ("png", 8, 6)


@pytest.mark.parametrize(("numbers", "missing"), [((0, 1, 3, 4), 2), ((0, 2, 3, 4), 1), ((0, 5, 10, 20), 15)])
def test_a_missing_picture_is_named(tmp_path, numbers, missing):
    write(tmp_path, [f"a_{n:04d}.png" for n in numbers])
    with pytest.raises(ValueError, match=f"image {missing} is missing"):
        open_sequence(tmp_path / "a_%04d.png")


def test_numbers_may_outgrow_their_zeros(tmp_path):
    write(tmp_path, ["a_09.png", "a_10.png", "a_99.png", "a_100.png"])
    with pytest.raises(ValueError, match="image 11 is missing"):
        open_sequence(tmp_path / "a_%02d.png")
    for n in range(11, 99):
        (tmp_path / f"a_{n}.png").write_bytes(b"")
    assert open_sequence(tmp_path / "a_%02d.png").numbers == range(9, 101)


def test_other_files_and_other_writings_of_a_number_are_left_alone(tmp_path):
    write(tmp_path, ["a_0000.png", "a_0001.png", "a_00002.png", ".a_0002.png", "b_0002.png"])
    (tmp_path / "a_0002.png").mkdir()
    assert open_sequence(tmp_path / "a_%04d.png").numbers == range(2)


def test_two_sequences_in_a_folder_are_not_guessed_at(tmp_path):
    write(tmp_path, ["a_0000.png", "b_0000.png"])
    with pytest.raises(ValueError, match="several sequences"):
        pattern_of(tmp_path)


def test_hash_follows_the_pictures_and_not_their_names(tmp_path):
    for name in ("one", "two", "other"):
        (tmp_path / name).mkdir()
    write(tmp_path / "one", ["a_0.png", "a_1.png"])
    write(tmp_path / "two", ["b_0005.png", "b_0010.png"])
    write(tmp_path / "other", ["a_1.png", "a_0.png"])
    one, two, other = (open_sequence(pattern_of(tmp_path / name)) for name in ("one", "two", "other"))
    assert one.sha256() == two.sha256() != other.sha256()
    assert one.size() == sum(path.stat().st_size for path in one.paths)


def test_transparency_is_dropped(tmp_path):
    Image.fromarray(np.full((6, 8, 4), (10, 20, 30, 0), np.uint8)).save(tmp_path / "a_0.png")
    assert next(video.frames(tmp_path / "a_%d.png"))[0, 0].tolist() == [10, 20, 30]


def test_what_is_no_picture_is_named(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a_0.png")
    (tmp_path / "a_1.png").write_bytes((tmp_path / "a_0.png").read_bytes()[:-60])
    with pytest.raises(ValueError, match=r"a_1.png: not a readable image"):
        list(video.frames(tmp_path / "a_%d.png"))
    (tmp_path / "a_1.png").write_bytes(b"GIF89a nothing")
    with pytest.raises(ValueError, match=r"a_1.png: not a readable PNG or JPEG"):
        open_sequence(tmp_path / "a_%d.png").facts()


def test_pictures_of_another_size_or_depth_are_refused(tmp_path):
    write(tmp_path, ["a_0.png"])
    write(tmp_path, ["a_1.png"], (6, 8))
    with pytest.raises(ValueError, match="all images must have the same size and format"):
        open_sequence(tmp_path / "a_%d.png").facts()
    Image.fromarray(np.zeros((6, 8), np.uint16)).save(tmp_path / "b_0.png")
    with pytest.raises(ValueError, match="use 8-bit RGB"):
        list(video.frames(tmp_path / "b_%d.png"))


def test_no_picture_at_all(tmp_path):
    assert pattern_of(tmp_path) is None
    with pytest.raises(FileNotFoundError):
        open_sequence(tmp_path / "a_%04d.png")
