"""Solving a run's guide in closed form: against regressions of stacked tokens, its folds, and what cannot be solved."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from guidino_cli.data.cases import IGNORED
from guidino_cli.engine.training.guide_fit import FittedGuide, fit_guide, training_folds
from guidino_cli.errors import ConfigError, DataError
from guidino_cli.models.base import Backbone
from guidino_cli.models.calibrated_ridge import CalibratedRidgeGuide
from guidino_cli.models.composed import Model
from guidino_cli.models.logit_prior import LogitPrior
from guidino_cli.models.ridge import TokenSums, fit_balanced_ridge
from guidino_cli.models.segmenters.unet import UNet
from guidino_cli.types import Case

WIDTH, GRID, CELL = 6, 5, 4


class Nothing(Backbone):
    channels, stride, identity, is_frozen = WIDTH, CELL, {"weights": "none", "sha256": "0"}, True

    def forward(self, image: Tensor) -> list[Tensor]:
        raise AssertionError("the tokens are given")


def _model(num_classes: int = 2) -> Model:
    guide = CalibratedRidgeGuide(channels=WIDTH, maps=num_classes - 1, alpha=0.05)
    prior = LogitPrior(maps=num_classes - 1, channels=WIDTH, tokens=3, shows=True, has_noise=True)
    segmenter = UNet(num_classes=num_classes, in_channels=3 + prior.channels, width=4)
    return Model(segmenter, backbone=Nothing(), guide=guide, guide_at="logits", prior=prior)


def _images(count: int, *, num_classes: int = 2, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    """Maps (1, D, h, w) and masks (1, H, W): whole cells of each class, whose tokens lean to one side."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(count):
        labels = torch.randint(0, num_classes, (1, GRID, GRID), generator=generator)
        dense = torch.randn(1, WIDTH, GRID, GRID, generator=generator)
        for index in range(1, num_classes):
            dense[:, index] += 2.0 * (labels == index)
        found.append((dense, labels.repeat_interleave(CELL, 1).repeat_interleave(CELL, 2)))
    return found


def _case(name: str, group: str | None = None) -> Case:
    return Case(name, Path(name), Path(name), "train", None, group or name, (20, 20), 0.5)


def _solve(model: Model, images: list[tuple[Tensor, Tensor]], folds: list[int], num_classes: int = 2) -> FittedGuide:
    return fit_guide(model, torch.tensor(folds), lambda place: images[place], num_classes=num_classes)


def _tokens(images: list[tuple[Tensor, Tensor]]) -> Tensor:
    return torch.cat([F.normalize(dense[0].flatten(1).T, dim=1) for dense, _ in images])


def _inside(images: list[tuple[Tensor, Tensor]], index: int = 1) -> Tensor:
    return torch.cat([(mask[0, ::CELL, ::CELL] == index).flatten().float() for _, mask in images])


@pytest.mark.parametrize("num_classes", [2, 3])
def test_each_map_equals_a_regression_on_the_stacked_tokens_of_all_images_but_the_fold(num_classes: int) -> None:
    images, folds = _images(6, num_classes=num_classes), [0, 1, 2, 0, 1, 2]
    model = _model(num_classes)
    fitted = _solve(model, images, folds, num_classes)
    guide = model.guide
    assert isinstance(guide, CalibratedRidgeGuide)
    for index in range(1, num_classes):
        parts = {}
        for left in (None, 0, 1, 2):
            seen = [image for image, fold in zip(images, folds, strict=True) if fold != left]
            parts[left] = fit_balanced_ridge(TokenSums.of(_tokens(seen), _inside(seen, index)[None]), alpha=0.05)
        held_out = torch.cat([parts[fold](_tokens([image])) for image, fold in zip(images, folds, strict=True)]).numpy()
        share = float(_inside(images, index).mean())
        threshold, deviation = np.quantile(held_out, 1 - share), held_out.std()
        assert fitted.areas[index - 1] == pytest.approx(share)
        assert fitted.thresholds[index - 1] == pytest.approx(threshold, abs=1e-4)
        for place, (dense, _) in enumerate(images):
            own = torch.logit(guide.held_out(dense, torch.tensor([folds[place]]))[0, index - 1]).flatten()
            expected = 2 * (parts[folds[place]](_tokens([images[place]])) - threshold) / deviation
            torch.testing.assert_close(own, expected.float(), atol=2e-3, rtol=1e-3)
            whole = torch.logit(guide(dense)[0, index - 1]).flatten()
            torch.testing.assert_close(
                whole,
                (2 * (parts[None](_tokens([images[place]])) - threshold) / deviation).float(),
                atol=2e-3,
                rtol=1e-3,
            )


def test_the_share_of_the_training_tokens_above_one_half_is_the_share_of_the_region() -> None:
    images, folds = _images(8, seed=3), [0, 1, 2, 3, 4, 0, 1, 2]
    model = _model()
    _solve(model, images, folds)
    guide = model.guide
    assert isinstance(guide, CalibratedRidgeGuide)
    above = torch.cat(
        [
            guide.held_out(dense, torch.tensor([fold])).flatten() > 0.5
            for (dense, _), fold in zip(images, folds, strict=True)
        ]
    )
    assert float(above.float().mean()) == pytest.approx(float(_inside(images).mean()), abs=0.01)


def test_the_mean_token_is_that_of_all_images() -> None:
    images, model = _images(4), _model()
    _solve(model, images, [0, 1, 0, 1])
    assert model.prior is not None
    torch.testing.assert_close(model.prior.mean_token, _tokens(images).mean(dim=0), atol=1e-6, rtol=1e-5)


def test_cells_of_ignored_pixels_have_no_say() -> None:
    images = _images(4)
    spoiled = []
    for dense, mask in images:
        dense, mask = dense.clone(), mask.clone()
        dense[..., 0, :] = 50.0
        mask[:, :CELL] = IGNORED
        spoiled.append((dense, mask))
    without = [(dense[..., 1:, :], mask[:, CELL:]) for dense, mask in spoiled]
    one, other = _model(), _model()
    assert _solve(one, spoiled, [0, 1, 0, 1]) == _solve(other, without, [0, 1, 0, 1])
    assert one.guide is not None
    assert other.guide is not None
    assert torch.equal(one.guide.weight, other.guide.weight)  # type: ignore[arg-type]


def test_a_class_that_only_one_fold_shows_is_named() -> None:
    images = _images(4, num_classes=2)
    images[0][1][:, :CELL, :CELL] = 2
    with pytest.raises(DataError, match=r"class 2 must be seen.* two folds or more"):
        _solve(_model(3), images, [0, 1, 0, 1], num_classes=3)


def test_images_without_any_foreground_are_refused() -> None:
    images = [(dense, torch.zeros_like(mask)) for dense, mask in _images(4)]
    with pytest.raises(DataError, match="foreground must be seen"):
        _solve(_model(), images, [0, 1, 0, 1])


def test_a_group_is_left_out_as_a_whole_and_few_images_have_fewer_folds() -> None:
    guide = CalibratedRidgeGuide(channels=WIDTH)
    cases = [_case(str(number), group=f"patient {number // 3}") for number in range(9)]
    folds = training_folds(cases, guide).tolist()
    assert [len(set(folds[start : start + 3])) for start in (0, 3, 6)] == [1, 1, 1]
    assert sorted(set(folds)) == [0, 1, 2]
    assert training_folds(cases, guide).tolist() == folds


def test_one_group_cannot_be_parted() -> None:
    cases = [replace(_case(str(number)), group="one") for number in range(3)]
    with pytest.raises(ConfigError, match=r"one group of 3 images.*fewshot"):
        training_folds(cases, CalibratedRidgeGuide(channels=WIDTH))
