"""Sliding-window inference covers every pixel, shifts nothing, and restores the size of the source."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from guidino_cli.config import DataSettings
from guidino_cli.engine.prediction.inference import segment_image
from guidino_cli.engine.prediction.predictor import Member, Predictor, Segmentation
from guidino_cli.engine.prediction.sliding import Window, count_windows, window_corners
from guidino_cli.errors import DataError
from guidino_cli.models.base import Backbone, Guide, Segmenter
from guidino_cli.models.composed import Model
from guidino_cli.types import Prediction

MIRROR_BACKBONE: tuple[Literal["each", "once"], ...] = ("each", "once")
SIZES = [(16, 16), (40, 56), (5, 7), (16, 33), (100, 17)]


class FakeModel(nn.Module):
    """Records its batches; subclasses define what they predict."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, 3, 1, 1))
        self.batches: list[Tensor] = []

    def forward(self, image: Tensor, *, get_or_compute: None = None) -> Prediction:
        self.batches.append(image.clone())
        return self.predict(image)

    def predict(self, image: Tensor) -> Prediction:
        raise NotImplementedError


class Constant(FakeModel):
    def predict(self, image: Tensor) -> Prediction:
        logits = torch.tensor([1.0, 3.0, 2.0]).view(1, 3, 1, 1).expand(len(image), 3, *image.shape[-2:])
        return Prediction([logits], torch.full((len(image), 1, 2, 2), 0.25))


class Pixelwise(FakeModel):
    """The logits of a pixel are its colours; the guide is the first."""

    def predict(self, image: Tensor) -> Prediction:
        return Prediction([image], image[:, :1])


class Centre(FakeModel):
    """Certain of class 1 in the middle of its window, of class 0 at the edge."""

    def predict(self, image: Tensor) -> Prediction:
        side = image.shape[-1]
        x = (torch.arange(side) - (side - 1) / 2).abs()
        middle = (torch.maximum(x[:, None], x[None]) < side / 4).float()
        logits = torch.stack([1 - middle, middle]) * 50
        return Prediction([logits.expand(len(image), -1, -1, -1)])


def _random_image(size: tuple[int, int]) -> Tensor:
    torch.manual_seed(0)
    return torch.rand(3, *size)


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_a_constant_model_gives_its_constant_everywhere(size: tuple[int, int], mirror: bool) -> None:
    probabilities, guide = segment_image(Constant(), _random_image(size), Window(16, mirror=mirror))  # type: ignore[arg-type]
    expected = torch.tensor([1.0, 3.0, 2.0]).softmax(dim=0).view(3, 1, 1).expand(3, *size)
    torch.testing.assert_close(probabilities, expected)
    torch.testing.assert_close(guide, torch.full((1, *size), 0.25))


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("size", [*SIZES, (17, 31), (64, 65)])
def test_windows_lie_inside_and_cover_every_pixel(size: tuple[int, int], overlap: float) -> None:
    seen = np.zeros([max(side, 16) for side in size], dtype=int)
    for top, left in window_corners(size, Window(16, overlap)):
        assert 0 <= top <= seen.shape[0] - 16
        assert 0 <= left <= seen.shape[1] - 16
        seen[top : top + 16, left : left + 16] += 1
    assert seen.min() >= 1


def test_windows_overlap_at_least_as_much_as_requested() -> None:
    tops = sorted({top for top, _ in window_corners((100, 16), Window(16, 0.5))})
    assert np.diff(tops).max() <= 8
    assert len(tops) == 12


def test_an_image_of_one_window_is_one_window() -> None:
    assert window_corners((16, 16), Window(16, 0.5)) == [(0, 0)]


@pytest.mark.parametrize(("side", "count"), [(1, 1), (16, 1), (17, 2), (24, 2), (25, 3), (32, 3)])
def test_windows_are_counted_without_listing_them(side: int, count: int) -> None:
    window = Window(16, 0.5)
    assert count_windows((side, side), window) == len(window_corners((side, side), window)) == count**2
    # (1e12 - 16) / 8 + 1 windows along each side.
    assert count_windows((10**12, 16), window) == 10**12 // 8 - 1


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_results_are_neither_shifted_nor_mirrored(size: tuple[int, int], mirror: bool) -> None:
    image = _random_image(size)
    probabilities, guide = segment_image(Pixelwise(), image, Window(16, mirror=mirror))  # type: ignore[arg-type]
    torch.testing.assert_close(probabilities, image.softmax(dim=0))
    torch.testing.assert_close(guide, image[:1])


def test_mirroring_runs_the_model_on_all_four_flips() -> None:
    model, image = Pixelwise(), _random_image((16, 16))
    segment_image(model, image, Window(16))  # type: ignore[arg-type]
    batches = [batch[0] for batch in model.batches]
    assert len(batches) == 4
    for axes in ((), (1,), (2,), (1, 2)):
        assert any(torch.equal(item, image.flip(axes)) for item in batches)


def test_without_mirroring_there_is_one_pass() -> None:
    model = Pixelwise()
    segment_image(model, _random_image((16, 16)), Window(16, mirror=False))  # type: ignore[arg-type]
    assert len(model.batches) == 1


def test_windows_go_through_the_model_in_batches() -> None:
    model = Pixelwise()
    segment_image(model, _random_image((16, 100)), Window(16, mirror=False, batch_size=5))  # type: ignore[arg-type]
    assert [len(batch) for batch in model.batches] == [5, 5, 2]


def test_the_middle_of_a_window_outweighs_the_edge_of_its_neighbour() -> None:
    probabilities, _ = segment_image(Centre(), _random_image((16, 24)), Window(16, 0.5, mirror=False))  # type: ignore[arg-type]
    # Columns 6 and 17 are in the middle of one window and at the very edge of the other.
    assert (probabilities[1, 8, [6, 17]] > 0.99).all()


def test_results_require_no_gradient() -> None:
    probabilities, _ = segment_image(Constant(), _random_image((16, 16)), Window(16))  # type: ignore[arg-type]
    assert not probabilities.requires_grad


def _segment_file(model: FakeModel, path: Path, settings: DataSettings, window: Window) -> Segmentation:
    return Predictor([Member(model, settings, window)]).segment_file(path)  # type: ignore[arg-type]


@pytest.mark.parametrize("resize", ["stretch", "shorter", "none"])
@pytest.mark.parametrize("size", [(37, 53), (16, 16), (100, 20), (9, 9)])
def test_the_mask_of_a_file_has_the_size_of_the_file(size: tuple[int, int], resize: str, tmp_path: Path) -> None:
    path = _save_image(tmp_path, size)
    settings = DataSettings(image_size=16, resize=resize)  # type: ignore[arg-type]
    result = _segment_file(Constant(), path, settings, Window(16))
    assert result.labels.shape == size
    assert result.probabilities.shape == (3, *size)
    assert result.guide is not None
    assert result.guide.shape == (1, *size)
    assert result.pixels.shape == (*size, 3)
    assert result.labels.dtype == np.uint8
    assert (result.labels == 1).all()


def test_a_stretched_image_is_one_window_as_in_training(tmp_path: Path) -> None:
    """The authors trained on the whole image and predicted on windows of native pixels."""
    model = Constant()
    _segment_file(model, _save_image(tmp_path, (200, 300)), DataSettings(image_size=16), Window(16, mirror=False))
    assert [tuple(batch.shape) for batch in model.batches] == [(1, 3, 16, 16)]


def test_a_bright_object_is_found_where_it_is(tmp_path: Path) -> None:
    pixels = np.zeros((60, 80, 3), dtype=np.uint8)
    pixels[..., 0] = 128
    pixels[12:30, 40:72, 1] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    labels = _segment_file(Pixelwise(), tmp_path / "a.png", DataSettings(image_size=32), Window(32)).labels
    expected = np.zeros((60, 80), dtype=np.uint8)
    expected[12:30, 40:72] = 1
    assert (labels != expected).mean() < 0.02


def test_a_file_that_is_not_an_image_raises_an_error_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no image")
    with pytest.raises(DataError, match=r"a\.png"):
        _segment_file(Constant(), tmp_path / "a.png", DataSettings(), Window(16))


def _save_image(folder: Path, size: tuple[int, int]) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (*size, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(folder / "a.png")
    return folder / "a.png"


class AsymmetricBackbone(Backbone):
    """Returns the column of each pixel in the image it is given: not symmetric, as a ViT is not."""

    channels, stride, identity, is_frozen = 1, 1, {"weights": "none", "sha256": "0"}, True

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, image: Tensor) -> list[Tensor]:
        self.calls += 1
        return [torch.linspace(0, 1, image.shape[-1]).expand(len(image), 1, *image.shape[-2:])]


class IdentitySegmenter(Segmenter):
    stride, uses_backbone = 1, True

    def encode(self, image: Tensor, dense: list[Tensor]) -> list[Tensor]:
        return dense

    def decode(self, features: list[Tensor], size_hw: tuple[int, int]) -> list[Tensor]:
        return [features[0].expand(-1, 2, -1, -1)]


class IdentityGuide(Guide):
    def forward(self, dense: Tensor) -> Tensor:
        return dense


@pytest.mark.parametrize(("mirror_backbone", "calls"), [("each", 4), ("once", 1)])
def test_mirror_backbone_runs_the_backbone_on_every_flip_or_once(
    mirror_backbone: Literal["each", "once"], calls: int
) -> None:
    """With "once" its maps are flipped with the image; with "each" the asymmetry averages out."""
    backbone = AsymmetricBackbone()
    model = Model(IdentitySegmenter(), backbone=backbone, guide=IdentityGuide(), guide_at="bottleneck")
    _, guide = segment_image(model, _random_image((16, 16)), Window(16, mirror_backbone=mirror_backbone))
    assert backbone.calls == calls
    column = torch.linspace(0, 1, 16) if mirror_backbone == "once" else torch.full((16,), 0.5)
    torch.testing.assert_close(guide, column.expand(1, 16, 16))


def test_without_mirroring_mirror_backbone_changes_nothing() -> None:
    model, image = Model(IdentitySegmenter(), backbone=AsymmetricBackbone()), _random_image((40, 56))
    each, once = (
        segment_image(model, image, Window(16, mirror=False, mirror_backbone=value))[0] for value in MIRROR_BACKBONE
    )
    assert torch.equal(each, once)
