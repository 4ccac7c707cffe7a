"""Ensembles, and large images in strips."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from guidino_cli.config import DataSettings
from guidino_cli.data.images import read_image
from guidino_cli.data.preprocess import restore_to_source
from guidino_cli.data.readers import open_regions
from guidino_cli.engine.prediction.predictor import DecodedImage, Member, Predictor, restored_bands
from guidino_cli.engine.prediction.sliding import Window
from guidino_cli.types import Geometry, Prediction


class LinearModel(nn.Module):
    """A model whose logits are 0 and `factor` (red - green)."""

    mean: Tensor

    def __init__(self, factor: float, guide: float | None = None) -> None:
        super().__init__()
        self.factor, self.guide = factor, guide
        self.batches: list[int] = []
        self.register_buffer("mean", torch.zeros(1, 3, 1, 1))

    def forward(self, image: Tensor, *, get_or_compute: None = None) -> Prediction:
        self.batches.append(len(image))
        score = self.factor * (image[:, :1] - image[:, 1:2])
        guide = None if self.guide is None else torch.full_like(score, self.guide)
        return Prediction([torch.cat([torch.zeros_like(score), score], dim=1)], guide)


def _image(pixels: np.ndarray) -> DecodedImage:
    return DecodedImage(pixels, Geometry.of_pixels("a", pixels.shape[:2]))


def _member(factor: float, resize: str = "none", size: int = 32, guide: float | None = None) -> Member:
    settings = DataSettings(image_size=size, resize=resize)  # type: ignore[arg-type]
    return Member(LinearModel(factor, guide), settings, Window(size, mirror=False))  # type: ignore[arg-type]


def _save_image(folder: Path, size: tuple[int, int]) -> Path:
    small = np.random.default_rng(0).integers(0, 255, (9, 11, 3)).astype(np.uint8)
    Image.fromarray(small).resize(size[::-1], Image.Resampling.BILINEAR).save(folder / "a.png")
    return folder / "a.png"


def test_an_ensemble_averages_probabilities() -> None:
    """Scores of 4 and -2 (one run each): probabilities 0.982 and 0.119, mean 0.551; the mean score would be 1."""
    pixels = np.zeros((32, 32, 3), dtype=np.uint8)
    pixels[..., 0] = 255
    result = Predictor([_member(4.0), _member(-2.0)]).segment([_image(pixels)])[0]
    expected = (1 / (1 + np.exp(-4)) + 1 / (1 + np.exp(2))) / 2
    assert result.probabilities[1, 5, 5].item() == pytest.approx(expected, abs=1e-6)
    assert (result.labels == 1).all()


def test_images_of_one_window_share_a_forward_pass() -> None:
    member = _member(1.0)
    predictor = Predictor([member])
    small = [_image(np.zeros((20 + i, 30, 3), dtype=np.uint8)) for i in range(3)]
    assert [result.labels.shape for result in predictor.segment(small)] == [(20, 30), (21, 30), (22, 30)]
    assert member.model.batches == [3]
    assert not predictor.is_one_window((33, 10))


@pytest.mark.parametrize("resizes", [["none"], ["stretch"], ["shorter"], ["none", "stretch"]])
@pytest.mark.parametrize("size", [(300, 70), (530, 600)])
def test_strips_give_the_mask_of_the_whole_image(size: tuple[int, int], resizes: list[str], tmp_path: Path) -> None:
    path = _save_image(tmp_path, size)
    predictor = Predictor([_member(9.0 + i, resize) for i, resize in enumerate(resizes)])
    whole = predictor.segment([DecodedImage(*read_image(path))])[0].labels
    strips = np.concatenate(list(predictor.label_rows(open_regions(path))))
    assert 0.1 < whole.mean() < 0.9
    assert strips.shape == whole.shape
    # Where the probabilities are equal but for rounding, either class is right.
    assert (strips != whole).mean() < 1e-4


@pytest.mark.parametrize("size", [(300, 70), (64, 64), (1000, 65), (20, 900), (300, 20)])
def test_restored_bands_equal_restore_to_source(size: tuple[int, int]) -> None:
    maps = torch.rand(2, 64, 64)
    bands = torch.cat(list(restored_bands(maps, size)), dim=1)
    torch.testing.assert_close(bands, restore_to_source(maps, Geometry.of_pixels("a", size)), atol=1e-5, rtol=0)


def test_the_guide_of_an_ensemble_is_that_of_its_first_member_that_has_one() -> None:
    image = _image(np.zeros((20, 30, 3), dtype=np.uint8))
    predictor = Predictor([_member(1.0), _member(1.0, guide=0.25), _member(1.0, guide=0.75)])
    result = predictor.segment([image])[0]
    assert result.guide is not None
    assert result.guide.shape == (1, 20, 30)
    assert result.guide.unique().tolist() == [0.25]
    assert Predictor([_member(1.0)]).segment([image])[0].guide is None


def test_an_image_is_one_window_if_it_is_one_for_every_member() -> None:
    predictor = Predictor([_member(1.0, size=16), _member(1.0, size=32)])
    assert not predictor.is_one_window((20, 20))
    assert predictor.is_one_window((16, 10))
    assert not predictor.is_one_window((33, 10))


def test_probabilities_of_an_ensemble_are_a_mean_whatever_their_number() -> None:
    image = _image(np.zeros((8, 8, 3), dtype=np.uint8))
    for count in (1, 2, 3):
        result = Predictor([_member(1.0) for _ in range(count)]).segment([image])[0]
        torch.testing.assert_close(result.probabilities, torch.full((2, 8, 8), 0.5))
