"""Duplicates are found and their groups joined."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from guidino_cli.files import file_sha256
from guidino_cli.preparation.duplicates import (
    connected_components,
    difference_hash,
    find_exact_duplicates,
    find_near_duplicates,
    merge_groups,
    thumbnail,
)


def _near(*images: Image.Image) -> list[tuple[int, int]]:
    grey = [image.convert("L") for image in images]
    return find_near_duplicates(
        np.stack([difference_hash(item) for item in grey]), np.stack([thumbnail(item) for item in grey])
    )


def _scene(seed: int) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 255, (8, 8), dtype=np.uint8)
    return Image.fromarray(coarse).resize((96, 96), Image.Resampling.BICUBIC)


def test_a_recompressed_smaller_copy_is_the_same_picture(tmp_path: Path) -> None:
    _scene(0).resize((80, 80)).save(tmp_path / "copy.jpg", quality=80)
    assert _near(_scene(0), _scene(1), Image.open(tmp_path / "copy.jpg")) == [(0, 2)]


def test_two_black_images_with_one_different_dot_are_not_the_same_picture() -> None:
    images = [Image.new("L", (96, 96)) for _ in range(2)]
    images[0].paste(255, (10, 10, 30, 30))
    images[1].paste(255, (60, 60, 80, 80))
    assert _near(*images) == []


def test_a_picture_beyond_the_first_chunk_is_compared_too() -> None:
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**63, (600, 4), dtype=np.uint64)
    small = rng.integers(0, 255, (600, 1024), dtype=np.uint8)
    for one, other in ((3, 599), (300, 400)):
        hashes[other], small[other] = hashes[one] ^ np.uint64(1), small[one]
    assert sorted(find_near_duplicates(hashes, small)) == [(3, 599), (300, 400)]


def test_nine_bits_of_difference_are_too_many() -> None:
    hashes = np.zeros((3, 4), dtype=np.uint64)
    hashes[1, 0], hashes[2, 0] = 0b1111_1111, 0b1_1111_1111
    small = np.tile(np.arange(1024) % 251, (3, 1)).astype(np.uint8)
    assert find_near_duplicates(hashes, small) == [(0, 1), (1, 2)]


def test_equal_files_are_found_whatever_their_name(tmp_path: Path) -> None:
    for name, content in (("a", b"1"), ("b", b"2"), ("c", b"1")):
        (tmp_path / name).write_bytes(content)
    assert find_exact_duplicates([file_sha256(tmp_path / name) for name in "abc"]) == [(0, 2)]


def test_pairs_that_share_an_image_are_one_component() -> None:
    assert connected_components(["a", "b", "c", "d"], [(0, 2), (2, 1)]) == [["a", "b", "c"]]


def test_groups_with_a_common_image_are_joined() -> None:
    groups = {"a1": "A", "a2": "A", "b1": "B", "c1": "C"}
    assert merge_groups(groups, [["a2", "b1"]]) == {"a1": "A", "a2": "A", "b1": "A", "c1": "C"}


def test_a_black_and_a_white_flat_picture_are_no_pair() -> None:
    pictures = [Image.new("L", (40, 40), level) for level in (0, 255, 255)]
    hashes = np.stack([difference_hash(picture) for picture in pictures])
    small = np.stack([thumbnail(picture) for picture in pictures])
    assert find_near_duplicates(hashes, small) == [(1, 2)]


@pytest.mark.parametrize(("flipped", "pairs"), [(24, [(0, 1)]), (28, [])])
def test_thumbnails_must_correlate_by_95_percent(flipped: int, pairs: list[tuple[int, int]]) -> None:
    """Half of 1,024 pixels are bright; of n changed ones half were bright: 1 - 2 n / 1,024 is 0.953 and 0.945."""
    small = np.full((2, 1024), 100, dtype=np.uint8)
    small[:, 512:] = 200
    small[1, : flipped // 2], small[1, 512 : 512 + flipped // 2] = 200, 100
    assert find_near_duplicates(np.zeros((2, 4), dtype=np.uint64), small) == pairs


def test_a_hash_says_which_cells_are_brighter_than_their_left_neighbour() -> None:
    ramp = Image.fromarray(np.tile(np.arange(17, dtype=np.uint8), (16, 1)))
    assert difference_hash(ramp).tolist() == [2**64 - 1] * 4
    assert difference_hash(ramp.transpose(Image.Transpose.FLIP_LEFT_RIGHT)).tolist() == [0] * 4
    assert difference_hash(Image.new("L", (17, 16), 9)).tolist() == [0] * 4
    assert thumbnail(Image.new("L", (50, 40), 9)).tolist() == [9] * 1024
