"""Images of a red and a blue square, and a backbone whose tokens are colours: what a few-label model tells at once."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from guidino_cli.engine.fewshot.images import LabelledImage, SeenImage
from guidino_cli.models.base import Backbone
from guidino_cli.models.composed import Model
from guidino_cli.models.ridge import RidgeGuide
from guidino_cli.models.segmenters.guided_filter import GuidedFilter

SIDE, CELL = 48, 4


class Colours(Backbone):
    """Tokens of the mean colours of cells, and a constant."""

    channels, stride, identity, is_frozen = 4, CELL, {"weights": "none", "sha256": "0"}, True

    def forward(self, image: Tensor) -> list[Tensor]:
        cells = F.avg_pool2d(image, CELL)
        return [torch.cat([cells, torch.ones_like(cells[:, :1])], dim=1)]


def make_model(num_classes: int = 2, alpha: float | None = None) -> Model:
    guide = RidgeGuide(channels=4, maps=num_classes - 1, alpha=alpha)
    segmenter = GuidedFilter(num_classes=num_classes, reduction=1, radius=1)
    return Model(segmenter, backbone=Colours(), guide=guide, guide_at="logits").eval()


def draw(seed: int, *, classes: tuple[int, ...] = (1,)) -> tuple[np.ndarray, np.ndarray]:
    """A noisy grey image with a red square (class 1) and a blue one (class 2), and its labels."""
    random = np.random.default_rng(seed)
    pixels, labels = random.integers(90, 110, (SIDE, SIDE, 3)), np.zeros((SIDE, SIDE), dtype=np.uint8)
    for index in classes:
        top, left = CELL * random.integers(0, 8), CELL * (random.integers(0, 2) + 6 * (index - 1))
        labels[top : top + 16, left : left + 16] = index
        pixels[labels == index] = (200, 40, 40) if index == 1 else (40, 40, 200)
    return pixels.astype(np.uint8), labels


def see(pixels: np.ndarray) -> SeenImage:
    image = torch.from_numpy(pixels.transpose(2, 0, 1).copy()).float()[None] / 255
    return SeenImage(pixels, Colours()(image)[-1][0])


def label(seed: int, **options: tuple[int, ...]) -> LabelledImage:
    pixels, labels = draw(seed, **options)
    return LabelledImage(see(pixels), labels)


def segment(model: Model, pixels: np.ndarray) -> np.ndarray:
    image = torch.from_numpy(pixels.transpose(2, 0, 1).copy()).float()[None] / 255
    with torch.no_grad():
        return model(image).logits[0][0].argmax(dim=0).numpy()
