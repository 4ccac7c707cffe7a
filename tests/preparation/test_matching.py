"""Matching of masks to images by name."""

from pathlib import Path

import pytest

from guidino_cli.preparation.matching import is_mask_name, match_masks


def _paths(*names: str) -> list[Path]:
    return [Path(name) for name in names]


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("a.jpg", "a.png"),
        ("ISIC_0000001.jpg", "ISIC_0000001_segmentation.png"),
        ("ISIC_0000001.jpg", "ISIC_0000001_Segmentation.png"),
        ("benign (1).png", "benign (1)_mask.png"),
        ("A01.tif", "a01.png"),
        ("x_image.png", "x_mask.png"),
        ("img_7.png", "mask_7.png"),
        ("21_training.tif", "21_manual1.gif"),
        ("case-3.png", "case-3.gt.png"),
    ],
)
def test_common_spellings_are_matched(image: str, mask: str) -> None:
    result = match_masks(_paths(image, "other.png"), _paths(mask, "other.png"))
    assert (Path(image), (Path(mask),)) in [(pair[1], pair[2]) for pair in result.pairs]


def test_numbered_masks_belong_to_one_image() -> None:
    result = match_masks(_paths("a.png"), _paths("a_mask.png", "a_mask_1.png", "a_mask_2.png"))
    assert [len(masks) for _, _, masks in result.pairs] == [3]


def test_masks_that_continue_the_name_of_an_image_belong_to_it_if_the_user_agrees() -> None:
    result = match_masks(_paths("a.png", "a_1.png"), _paths("a_0.png", "a_2.png", "a_1_0.png", "a_1-x.png"))
    assert {stem: [mask.name for mask in masks] for stem, _, masks in result.pairs} == {
        "a": ["a_0.png", "a_2.png"],
        "a_1": ["a_1-x.png", "a_1_0.png"],
    }
    assert result.is_several


def test_several_masks_of_other_names_belong_to_the_only_image() -> None:
    result = match_masks(_paths("a.png"), _paths("7f.png", "c2.png"))
    assert [len(masks) for _, _, masks in result.pairs] == [2]
    assert result.is_several


def test_a_mask_left_over_is_not_merged_into_an_image_that_has_one() -> None:
    result = match_masks(_paths("a.png", "b.png"), _paths("a.png", "b.png", "a_old.png"))
    assert result.unmatched_masks == _paths("a_old.png")
    assert not result.is_several


def test_one_mask_of_another_name_is_no_partner() -> None:
    assert match_masks(_paths("a.png"), _paths("c.png")).pairs == []


def test_two_masks_of_one_name_are_a_collision() -> None:
    result = match_masks(_paths("a.png"), _paths("a_mask.png", "a_gt.png"))
    assert result.pairs == []
    assert len(result.collisions) == 1


def test_two_images_of_one_name_are_a_collision() -> None:
    result = match_masks(_paths("a.jpg", "a.png", "b.png"), _paths("a.gif", "b.gif"))
    assert [pair[0] for pair in result.pairs] == ["b"]
    assert result.collisions == [(Path("a.jpg"), Path("a.png"), Path("a.gif"))]


def test_files_without_a_partner_are_listed() -> None:
    result = match_masks(_paths("a.png", "b.png"), _paths("b.png", "c.png"))
    assert (result.unmatched_images, result.unmatched_masks) == (_paths("a.png"), _paths("c.png"))


def test_consecutive_names_are_not_matched() -> None:
    assert match_masks(_paths("a.png", "b.png"), _paths("c.png", "d.png")).pairs == []


def test_an_accent_is_one_name_composed_or_decomposed() -> None:
    assert len(match_masks(_paths("caf\u00e9.png"), _paths("cafe\u0301.png")).pairs) == 1


def test_a_name_with_mask_inside_a_word_is_no_mask() -> None:
    assert is_mask_name("a_mask_1")
    assert not is_mask_name("unmasked")
    assert not is_mask_name("21_training")
