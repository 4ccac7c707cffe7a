"""A finer guide by showing the backbone an enlarged image: it still lies over the image."""

import math
from pathlib import Path

import pytest
import torch

from guidino_cli.models import build_backbone
from guidino_cli.models.base import Backbone

SMALL = {"hidden_size": 32, "depth": 2, "heads": 2}


def _backbone(family: str, folder: Path, *, scale: float) -> Backbone:
    if family == "random":
        backbone: Backbone = build_backbone("random", {**SMALL, "scale": scale})
        return backbone
    return build_backbone(family, {"weights": str(folder), "scale": scale}, offline=True)  # type: ignore[no-any-return]


@pytest.mark.parametrize("size", [(64, 80), (33, 50), (70, 41)])
@pytest.mark.parametrize("scale", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("family", ["random", "dinov2"])
def test_a_bright_dot_changes_most_the_cell_it_lies_in(
    family: str, scale: float, size: tuple[int, int], dinov2_folder: Path
) -> None:
    """Cell (i, j) is centred on pixel ((i + 0.5) H / h, (j + 0.5) W / w), also where no side divides."""
    backbone = _backbone(family, dinov2_folder, scale=scale)
    image = torch.full((1, 3, *size), 0.5)
    plain = backbone(image)[0]
    h, w = plain.shape[-2:]
    assert (h, w) == tuple(math.ceil(side * scale / backbone.stride) for side in size)
    for i, j in {(0, 0), (h // 2, w // 3), (h - 1, w - 1), (0, w - 1)}:
        y, x = (i + 0.5) * size[0] / h - 0.5, (j + 0.5) * size[1] / w - 0.5
        dotted = image.clone()
        dotted[..., math.floor(y) : math.ceil(y) + 1, math.floor(x) : math.ceil(x) + 1] = 1.0
        change = (backbone(dotted)[0] - plain).norm(dim=1)[0]
        assert divmod(int(change.argmax()), w) == (i, j)
