"""Remarks about images, masks and their names."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from guidino_cli.data.masks.values import Histogram
from guidino_cli.preparation.checks import (
    Finding,
    ImageProperties,
    PackedMask,
    check_foreground,
    check_image_properties,
    check_names,
    check_pair,
    check_swapped_names,
    format_items,
    inspect_image,
    inspect_masks,
    is_orientation_clear,
)
from guidino_cli.preparation.types import DiscoveredDataset, ImageMaskPair


def test_a_mask_with_only_the_second_class_is_not_empty() -> None:
    counts = {"a": np.array([90, 0, 10]), "b": np.array([90, 10, 0])}
    assert check_foreground(counts) == []


def test_an_empty_and_a_full_mask_are_named() -> None:
    counts = {"empty": np.array([100, 0]), "full": np.array([0, 100])}
    assert [(item.kind, item.text.rsplit(": ")[1]) for item in check_foreground(counts)] == [
        ("note", "empty"),
        ("warning", "full"),
    ]


def pair(image: str, mask: str) -> ImageMaskPair:
    return ImageMaskPair(Path(image).stem, (Path("images", image),), (Path("masks", mask),))


def test_masks_of_a_table_shifted_by_a_row_are_named() -> None:
    names = ["img_01", "img_02", "img_03", "img_04"]
    shifted = [pair(f"{a}.jpg", f"{b[4:]}_mask.png") for a, b in pairwise(names)]
    (finding,) = check_swapped_names([*shifted, pair("img_04.jpg", "04_mask.png")])
    assert finding.kind == "warning"
    assert finding.text.startswith("3 masks of 4 named like the image of another case: 02_mask.png for img_01.jpg, ")


def test_masks_named_unlike_any_image_are_not_suspicious() -> None:
    assert check_swapped_names([pair("a.jpg", "x1.png"), pair("b.jpg", "x2.png"), pair("c.jpg", "C_mask.png")]) == []


def save(place: Path, values: np.ndarray, orientation: int = 1) -> Path:
    exif = Image.Exif()
    if orientation != 1:
        exif[0x0112] = orientation
    Image.fromarray(values).save(place, exif=exif)
    return place


def properties(
    size_hw: tuple[int, int] = (4, 6), mode: str = "RGB", orientation: int = 1, flat: bool = False
) -> ImageProperties:
    return ImageProperties(size_hw, mode, "0", np.zeros(4, np.uint64), np.zeros(1024, np.uint8), flat, orientation)


def mask(shape: tuple[int, ...] = (4, 6), orientation: int = 1) -> PackedMask:
    return PackedMask(b"", shape, "|u1", Histogram("m", (0,), (1,), 1, "grey"), orientation)


def test_an_image_is_described_as_exif_turns_it(tmp_path: Path) -> None:
    pixels = np.zeros((4, 6, 3), dtype=np.uint8)
    pixels[0, 0] = 9
    found = inspect_image(save(tmp_path / "a.png", pixels, orientation=6))
    assert (found.size_hw, found.mode, found.orientation, found.is_flat) == ((6, 4), "RGB", 6, False)
    assert inspect_image(save(tmp_path / "b.png", np.full((4, 6), 7, dtype=np.uint8))).is_flat


@pytest.mark.parametrize(
    ("mode", "deep", "alpha"), [("RGB", False, False), ("LA", False, True), ("RGBA;16", True, True)]
)
def test_depth_and_alpha_follow_from_the_mode(mode: str, deep: bool, alpha: bool) -> None:
    assert (properties(mode=mode).is_deep, properties(mode=mode).has_alpha) == (deep, alpha)


def test_a_deep_image_is_compared_by_a_stretched_copy(tmp_path: Path) -> None:
    values = np.array([[1000, 3000]], dtype=np.uint16)
    found = inspect_image(save(tmp_path / "a.png", values))
    assert (found.mode, found.is_flat) == ("I;16", False)
    assert sorted(set(found.small.tolist())) == [0, 255]


@pytest.mark.parametrize(("tag", "expected"), [(1, [[3], [1], [2]]), (6, [[1, 3, 2]])])
def test_only_masks_without_a_tag_are_turned_with_their_image(
    tmp_path: Path, tag: int, expected: list[list[int]]
) -> None:
    """A column of three values; the image is turned upside down and its mask too, unless its own tag turns it."""
    column = np.array([[2], [1], [3]], dtype=np.uint8)
    (packed,) = inspect_masks([save(tmp_path / "a.png", column, tag)], orientation=3)
    found = packed.values()
    assert found.tolist() == (expected if tag == 1 else np.rot90(column, -1).tolist())
    assert packed.orientation == tag


def test_channels_and_masks_have_the_size_of_the_first_image() -> None:
    pair_of_three = ImageMaskPair("a", (Path("r.png"), Path("g.png")), (Path("m.png"), Path("n.png")))
    assert check_pair(pair_of_three, [properties(), properties()], [mask(), mask((4, 6, 3))]) == []
    findings = check_pair(pair_of_three, [properties(), properties((4, 5))], [mask((6, 4)), mask((4, 5))])
    assert [item.text for item in findings] == [
        "g.png: is 5x4, its first channel 6x4",
        "m.png: is 4x6, its image 6x4 (turned by 90 degrees?)",
        "n.png: is 5x4, its image 6x4",
    ]
    assert {(item.kind, item.case) for item in findings} == {("bad", "a")}


@pytest.mark.parametrize(("count", "fits"), [(3, True), (4, False)])
def test_an_image_has_three_channel_files_at_most(count: int, fits: bool) -> None:
    channels = ImageMaskPair("a", tuple(Path(f"{index}.png") for index in range(count)), ())
    assert (check_pair(channels, [properties()] * count, []) == []) == fits


@pytest.mark.parametrize(
    ("size_hw", "orientation", "tag", "is_clear"),
    [
        ((4, 6), 1, 1, True),
        ((4, 6), 6, 1, True),  # a quarter turn shows in the sides
        ((4, 4), 6, 1, False),
        ((4, 6), 3, 1, False),  # half a turn does not
        ((4, 6), 4, 1, False),
        ((4, 6), 5, 1, True),
        ((4, 6), 3, 3, True),
    ],
)
def test_whether_masks_fit_a_turned_image_shows_in_its_sides_or_their_tag(
    size_hw: tuple[int, int], orientation: int, tag: int, is_clear: bool
) -> None:
    assert is_orientation_clear(properties(size_hw, orientation=orientation), [mask(orientation=tag)]) == is_clear


def test_unusual_images_are_counted_by_kind() -> None:
    found = check_image_properties(
        {
            "deep": properties(mode="I;16"),
            "alpha": properties(mode="RGBA"),
            "turned": properties(orientation=3),
            "flat": properties(flat=True),
            "plain": properties(),
        }
    )
    assert [(item.kind, item.text.rsplit(": ")[-1]) for item in found] == [
        ("note", "deep"), ("note", "alpha"), ("note", "turned"), ("warning", "flat"),
    ]  # fmt: skip
    assert check_image_properties({"plain": properties()}) == []


@pytest.mark.parametrize(("allowed", "kind"), [(True, "warning"), (False, "error")])
def test_files_without_a_partner_stop_unless_they_are_allowed(allowed: bool, kind: str) -> None:
    dataset = DiscoveredDataset(
        "plain", "", [pair("a.png", "a.png")], notes=["seen"], unmatched_images=[Path("i/x.png")],
        unmatched_masks=[Path("m/y.png"), Path("m/z.png")],
    )  # fmt: skip
    found = check_names(dataset, allow_unpaired=allowed)
    assert [item.kind for item in found] == ["note", kind, kind]
    assert found[1].text.startswith("1 image without a mask (i/x.png): ")
    assert found[2].text.startswith("2 masks without an image (m/y.png, m/z.png): ")


def test_ids_that_differ_only_by_case_or_cannot_be_file_names_are_errors() -> None:
    pairs = [ImageMaskPair(name, (Path("a"),), (Path("b"),)) for name in ("a", "A", "../x", "b")]
    found = check_names(DiscoveredDataset("plain", "", pairs), allow_unpaired=True)
    assert [item.kind for item in found] == ["error", "error"]
    assert "'../x'" in found[0].text
    assert found[1].text == "2 cases share the id A / a: rename them"


def test_files_of_one_name_are_an_error_even_if_unpaired_ones_are_allowed() -> None:
    dataset = DiscoveredDataset("plain", "", [], collisions=[(Path("m/a.png"), Path("m/a.tif"))])
    (found,) = check_names(dataset, allow_unpaired=True)
    assert found == Finding(
        "error", "m/a.png, m/a.tif have one name but are several files: remove or rename all but one"
    )


def test_all_masks_empty_or_all_full_are_one_warning() -> None:
    (empty,) = check_foreground({"a": np.array([9, 0]), "b": np.array([9, 0])})
    assert (empty.kind, empty.text) == ("warning", "every mask is empty: there is nothing to learn")
    (full,) = check_foreground({"a": np.array([0, 9]), "b": np.array([0, 9])})
    assert full.text.startswith("no mask has a pixel of class 0")
    assert check_foreground({}) == []


def test_ten_items_are_listed() -> None:
    assert format_items(["a", Path("x/y/b.png")]) == "a, y/b.png"
    assert format_items(map(str, range(10))).endswith("8, 9")
    assert "10" not in format_items(map(str, range(11))).split(", ")
