"""The guided filter and Otsu's threshold against plain loops, and logits by hand."""

import numpy as np
import pytest
import torch

from guidino_cli.config import ComponentSettings, GuideSettings, ModelSettings
from guidino_cli.errors import ConfigError
from guidino_cli.models import build_model
from guidino_cli.models.segmenters.guided_filter import GuidedFilter, guided_filter, otsu_threshold

TINY = ComponentSettings("random", {"hidden_size": 16, "depth": 1, "heads": 2})


def filtered_by_loops(values: np.ndarray, grey: np.ndarray, *, radius: int, eps: float) -> np.ndarray:
    """Equations 5, 6 and 8 of He et al. (2010), cell by cell."""
    size = 2 * radius + 1

    def boxes(array: np.ndarray) -> np.ndarray:
        padded = np.pad(array, radius, mode="edge")
        return np.lib.stride_tricks.sliding_window_view(padded, (size, size))

    slope, offset = np.empty_like(values), np.empty_like(values)
    for place in np.ndindex(values.shape):
        image, target = boxes(grey)[place].ravel(), boxes(values)[place].ravel()
        slope[place] = np.mean((image - image.mean()) * (target - target.mean())) / (image.var() + eps)
        offset[place] = target.mean() - slope[place] * image.mean()
    return boxes(slope).mean(axis=(2, 3)) * grey + boxes(offset).mean(axis=(2, 3))


def otsu_by_loops(values: np.ndarray) -> float:
    ordered = np.sort(values)
    spread = [
        low.size * high.size * (high.mean() - low.mean()) ** 2
        for low, high in ((ordered[:count], ordered[count:]) for count in range(1, ordered.size))
    ]
    best = int(np.argmax(spread)) + 1
    return float((ordered[best - 1] + ordered[best]) / 2)


@pytest.mark.parametrize("radius", [0, 1, 3])
def test_the_filter_equals_the_papers_equations(radius: int) -> None:
    values, grey = np.random.default_rng(0).random((2, 7, 9))
    found = guided_filter(torch.tensor(values)[None, None], torch.tensor(grey)[None, None], radius=radius, eps=1e-3)
    np.testing.assert_allclose(found[0, 0].numpy(), filtered_by_loops(values, grey, radius=radius, eps=1e-3), atol=1e-9)


def test_an_edge_of_the_image_becomes_the_edge_of_the_map() -> None:
    """A map that fades over the edge of the image is sharper there, and a brighter image changes nothing."""
    grey = (torch.arange(12) >= 6).float().expand(1, 1, 12, 12)
    blurred = torch.linspace(0, 1, 12).expand(1, 1, 12, 12)
    found = guided_filter(blurred, grey, radius=3, eps=1e-3)
    assert found[0, 0, 6, 6] - found[0, 0, 6, 5] > 3 * (blurred[0, 0, 6, 6] - blurred[0, 0, 6, 5])
    torch.testing.assert_close(guided_filter(blurred, grey + 5, radius=3, eps=1e-3), found, atol=1e-5, rtol=0)


@pytest.mark.parametrize("seed", range(5))
def test_otsu_is_the_best_of_all_partitions(seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=30)
    assert otsu_threshold(torch.tensor(values)).item() == pytest.approx(otsu_by_loops(values), abs=1e-12)


def test_otsu_by_hand() -> None:
    # 0, 0, 0 against 1, 2: 3 * 2 * 1.5^2 = 13.5; with 1 among the low ones 4 * 1 * 1.75^2 = 12.25.
    rows = torch.tensor([[2.0, 0.0, 1.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25, 0.25]])
    assert otsu_threshold(rows).tolist() == [0.5, 0.25]
    assert otsu_threshold(torch.tensor([0.75])).item() == 0.75


def test_logits_are_the_distance_to_a_threshold_that_follows_the_image() -> None:
    segmenter = GuidedFilter(num_classes=3, reduction=2, otsu=0.75)
    segmenter.set_thresholds([0.5, 0.25], [0.4, 0.4], [10.0, 4.0])
    flat = torch.cat([torch.full((1, 1, 3, 3), 0.8), torch.full((1, 1, 3, 3), 0.2)], dim=1)
    features = segmenter.encode(torch.rand(1, 3, 8, 8), [flat])
    assert [item.shape for item in features] == [(1, 2, 4, 4)]
    (logits,) = segmenter.decode(features, (8, 8))
    # A flat map is its own Otsu threshold: 10 (0.8 - 0.5 - 0.75 (0.8 - 0.4)) = 0, 4 (0.2 - 0.25 + 0.75 * 0.2) = 0.4.
    expected = torch.tensor([0.0, 0.0, 0.4]).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)


def test_the_filter_sees_luminance() -> None:
    """A normalised image whose channels differ gives the map that its grey copy gives, offsets aside."""
    segmenter, colours = GuidedFilter(num_classes=2, reduction=1), torch.rand(1, 3, 12, 12)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    grey = (colours * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
    guide = torch.rand(1, 1, 4, 4)
    (found,) = segmenter.encode((colours - 0.45) / std, [guide])
    wide = torch.nn.functional.interpolate(guide, (12, 12), mode="bilinear")
    torch.testing.assert_close(found, guided_filter(wide, grey, radius=4, eps=1e-3), atol=1e-5, rtol=1e-4)


def test_half_precision_around_it_changes_nothing() -> None:
    segmenter, image, guide = GuidedFilter(num_classes=2), torch.rand(1, 3, 24, 24), torch.rand(1, 1, 4, 4)
    alone = segmenter.decode(segmenter.encode(image, [guide]), (24, 24))[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = segmenter.decode(segmenter.encode(image, [guide]), (24, 24))[0]
    assert torch.equal(found, alone)


def test_gradients_reach_the_guide() -> None:
    segmenter, guide = GuidedFilter(num_classes=2), torch.rand(1, 1, 4, 4, requires_grad=True)
    segmenter.decode(segmenter.encode(torch.rand(1, 3, 24, 24), [guide]), (24, 24))[0][:, 1].sum().backward()
    assert guide.grad is not None
    # The map's weight in each cell is the share of the image that it covers, times the sharpness.
    assert guide.grad.sum().item() == pytest.approx(10 * 24 * 24, rel=1e-3)


@pytest.mark.parametrize(
    ("segmenter", "guide", "num_classes", "message"),
    [
        ("guided-filter", None, 2, "makes its mask of a guide: set model.guide"),
        ("guided-filter", GuideSettings("ridge", at="input"), 2, "cannot be cut there: use logits"),
        ("guided-filter", GuideSettings("ridge", at="logits"), 3, "set model.guide.per_class=true"),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    segmenter: str, guide: GuideSettings | None, num_classes: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        build_model(ModelSettings(ComponentSettings(segmenter), TINY, guide=guide), num_classes=num_classes)


def test_any_guide_can_be_read() -> None:
    settings = ModelSettings(ComponentSettings("guided-filter"), TINY, guide=GuideSettings(at="logits", per_class=True))
    prediction = build_model(settings, num_classes=4)(torch.rand(2, 3, 50, 40))
    assert prediction.logits[0].shape == (2, 4, 50, 40)
    assert prediction.guide is not None
    assert prediction.guide.shape[:2] == (2, 3)
