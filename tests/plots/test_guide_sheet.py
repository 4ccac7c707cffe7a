"""Contact sheets of guides: nothing in the foot lies over anything else."""

from itertools import combinations

import numpy as np
import pytest

from guidino_cli.plots.guide_sheet import GuideTile, guide_sheet


@pytest.mark.parametrize("count", [1, 7, 20])
@pytest.mark.parametrize("tiles", [1, 5])
def test_captions_colorbar_and_legend_do_not_overlap(count: int, tiles: int) -> None:
    tile = GuideTile([np.zeros((150, 200, 3), np.uint8)] * 2, "name.png", "AUROC 0.999, IoU at 0.5 0.902")
    classes = ["background", *(f"structure {number}" for number in range(1, count + 1))]
    figure = guide_sheet([tile] * tiles, heading="x", note="y", classes=classes, limits=(0.0, 1.0))
    figure.canvas.draw()
    page, bar = figure.axes
    legend = page.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == classes[1:]
    captions = [text.get_window_extent() for text in page.texts if text.get_text() in {tile.title, tile.detail}]
    note = figure.texts[0].get_window_extent()
    boxes = [legend.get_window_extent(), bar.get_tightbbox(), note, *captions]
    assert not any(first.overlaps(second) for first, second in combinations(boxes, 2) if first is not second)
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 and box.y0 >= -1 for box in boxes)
