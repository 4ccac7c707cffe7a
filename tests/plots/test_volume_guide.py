"""The figure of a guide in a volume."""

from dataclasses import replace

import numpy as np

from guidino_cli.plots.planes import cut_planes, project_planes
from guidino_cli.plots.volume_guide import (
    VolumeGuideMap,
    VolumeGuideStyle,
    VolumeGuideView,
    format_millilitres,
    volume_guide_figure,
    volume_guide_tile,
)
from guidino_cli.plots.volumes import view_volume

STYLE = VolumeGuideStyle(["background", "cord", "lesion"], (0.0, 1.0), "run mine")


def _item(*, maps: int = 1, labelled: bool = True) -> VolumeGuideView:
    truth = np.zeros((4, 20, 30), dtype=np.uint8)
    truth[1:3, 5:10, 5:20] = 1
    view = view_volume("case.nii.gz", truth * 0.5, (5, 1, 1), truth=truth if labelled else None, labels=truth)
    guide = np.linspace(0.405, 0.595, 4 * 20 * 30).reshape(4, 20, 30)
    drawn = VolumeGuideMap("cord", cut_planes(guide, view.position), project_planes(guide), 0.405, 0.595)
    if labelled:
        targets = (cut_planes(truth > 0, view.position), project_planes(truth > 0))
        drawn = replace(drawn, target=targets[0], silhouette=targets[1], auroc=0.9, iou=0.25)
    names = ["cord", "lesion", "any class"]
    return VolumeGuideView(
        view, [replace(drawn, name=name) for name in names[:maps]], 0.5 if labelled else None, 0.15,
        0.15 if labelled else None,
    )  # fmt: skip


def _texts(item: VolumeGuideView) -> list[str]:
    return [text.get_text() for text in volume_guide_figure(item, STYLE).axes[0].texts if text.get_text()]


def test_a_labelled_volume_is_drawn_with_truth_and_scores() -> None:
    texts = _texts(_item())
    rows = [
        "image",
        "truth",
        "prediction of the network",
        "guide over the image",
        "maximum projection of the guide",
    ]
    assert [text for text in texts if text in rows] == rows
    assert "Dice 0.500, 0.15 ml" in texts
    assert "from 0.41 to 0.59, AUROC 0.900, IoU at 0.5 0.250; truth outlined in white" in texts
    assert "30 x 20 x 4 voxels; pixels 1 x 1 mm, slices 5 mm" in texts
    assert texts.count("S") == 2 * len(rows)


def test_without_truth_there_is_neither_its_row_nor_a_score() -> None:
    texts = _texts(_item(labelled=False))
    assert "truth" not in texts
    assert "from 0.41 to 0.59" in texts
    assert not [text for text in texts if "Dice" in text or "outlined in white" in text]


def test_several_maps_are_named() -> None:
    texts = _texts(_item(maps=3))
    assert "guide over the image: lesion" in texts
    assert "maximum projection of the guide: any class" in texts


def test_the_range_of_a_volume_is_rounded_outwards() -> None:
    item = _item()
    assert item.limits() == (0.4, 0.6)
    assert replace(STYLE, limits=None).limits_of(item) == (0.4, 0.6)
    constant = replace(item, maps=[replace(item.maps[0], low=0.5, high=0.5)])
    assert constant.limits() == (0.49, 0.51)


def test_a_tile_has_the_outlined_slice_and_every_map() -> None:
    tile = volume_guide_tile(_item(maps=3), STYLE, "AUROC 0.900")
    assert len(tile.pictures) == 4
    assert {picture.shape for picture in tile.pictures} == {(133, 200, 3)}  # 20 x 30 mm


def test_millilitres_are_said_with_three_digits() -> None:
    assert [format_millilitres(value) for value in (0, 0.04567, 12.345, 1234.5)] == [
        "nothing found", "0.0457 ml", "12.3 ml", "1,234 ml",
    ]  # fmt: skip
