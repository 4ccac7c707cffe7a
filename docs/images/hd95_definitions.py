"""Draw hd95_definitions.png: the two definitions of HD95 for a disc and a small distant island.

python docs/images/hd95_definitions.py
"""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from guidino_cli.metrics.surface import hausdorff95, mask_edges, surface_distances
from guidino_cli.plots.report import FALSE_POSITIVE, TRUE_POSITIVE


def main() -> None:
    """Draw islands of growing size, 200 px away from a perfectly segmented disc."""
    truth = disc(100, (256, 140))
    figure = Figure(figsize=(10, 3.9), layout="constrained")
    for axes, radius in zip(figure.subplots(1, 3), (3, 8, 14), strict=True):
        island = disc(radius, (256, 440))
        prediction = truth | island
        distances = surface_distances(prediction, truth, (1.0, 1.0))
        share = mask_edges(island).sum() / mask_edges(prediction).sum()
        pooled, largest = (hausdorff95(distances, which) for which in ("pooled", "max"))
        picture = np.full((*truth.shape, 3), 24, dtype=np.uint8)
        picture[truth] = TRUE_POSITIVE
        picture[prediction & ~truth] = FALSE_POSITIVE
        axes.imshow(picture)
        title = f"island: {share:.1%} of the predicted border\nHD95 pooled {pooled:.0f} px, max {largest:.0f} px"
        axes.set_title(title, fontsize=10)
        axes.set_axis_off()
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=110, bbox_inches="tight")


def disc(radius: int, centre: tuple[int, int]) -> np.ndarray:
    """A disc in an image of 512 x 512."""
    rows, columns = np.indices((512, 512))
    return np.hypot(rows - centre[0], columns - centre[1]) < radius


if __name__ == "__main__":
    main()
