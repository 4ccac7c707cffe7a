"""The augmentation "nnunet": what is drawn, by statistics, and what each transform does, by hand.

Probabilities and ranges are those of `get_training_transforms` of nnU-Net 2.8.1's default trainer with a square patch,
and of batchgeneratorsv2 0.3.6, which it calls.
"""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from guidino_cli.data.augment import AugmentationParams, augment_batch, draw_augmentation
from guidino_cli.data.dataset import random_generator

DRAWS = 20_000


@pytest.fixture(scope="module")
def draws() -> list[AugmentationParams]:
    generator = np.random.default_rng(2026)
    return [draw_augmentation("nnunet", generator) for _ in range(DRAWS)]


def _changed(draws: Sequence[AugmentationParams], name: str) -> list[AugmentationParams]:
    return [drawn for drawn in draws if getattr(drawn, name) != getattr(AugmentationParams(), name)]


def _channel_values(draws: Sequence[AugmentationParams], name: str) -> np.ndarray:
    """(N, 3) numbers of the samples that are changed; of a blur, those along the height."""
    values = np.array([getattr(drawn, name) for drawn in _changed(draws, name)])
    return values[..., 0] if name == "blur" else values


def _assert_share(found: int, of: int, expected: float) -> None:
    """Four standard errors of a binomial share."""
    assert found / of == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / of))


def _assert_uniform(values: np.ndarray, low: float, high: float) -> None:
    """Mean within four standard errors, and ends reached up to a probability of 1e-6."""
    assert values.mean() == pytest.approx((low + high) / 2, abs=4 * (high - low) / math.sqrt(12 * len(values)))
    assert low <= values.min() <= low + (high - low) * 14 / len(values)
    assert high - (high - low) * 14 / len(values) <= values.max() <= high


@pytest.mark.parametrize(
    ("name", "probability"),
    [("flip_y", 0.5), ("flip_x", 0.5), ("rotation", 0.2), ("scale", 0.2), ("noise", 0.1), ("blur", 0.2),
     ("brightness", 0.15), ("contrast", 0.15), ("low_resolution", 0.25), ("gamma_inverted", 0.1), ("gamma", 0.3)],
)  # fmt: skip
def test_each_transform_has_nnunets_probability(draws: list[AugmentationParams], name: str, probability: float) -> None:
    _assert_share(len(_changed(draws, name)), DRAWS, probability)


@pytest.mark.parametrize("name", ["shear", "shift_y", "shift_x", "elastic"])
def test_nothing_else_is_drawn(draws: list[AugmentationParams], name: str) -> None:
    assert not _changed(draws, name)


def test_the_two_gammas_are_independent(draws: list[AugmentationParams]) -> None:
    # 1 - 0.9 * 0.7 for any of them, 0.1 * 0.3 for both.
    inverted, plain = ({id(drawn) for drawn in _changed(draws, name)} for name in ("gamma_inverted", "gamma"))
    _assert_share(len(inverted | plain), DRAWS, 0.37)
    _assert_share(len(inverted & plain), DRAWS, 0.03)


def test_rotation_and_scale_are_independent(draws: list[AugmentationParams]) -> None:
    _assert_share(len(_changed(_changed(draws, "rotation"), "scale")), DRAWS, 0.04)


def test_the_angle_is_anything(draws: list[AugmentationParams]) -> None:
    _assert_uniform(np.array([drawn.rotation for drawn in _changed(draws, "rotation")]), -math.pi, math.pi)


def test_objects_are_divided_by_a_uniform_scale(draws: list[AugmentationParams]) -> None:
    _assert_uniform(np.array([1 / drawn.scale for drawn in _changed(draws, "scale")]), 0.7, 1.4)


def test_the_noise_of_a_normalised_image_has_a_deviation_up_to_a_tenth(draws: list[AugmentationParams]) -> None:
    # ImageNet's deviation, by which images are divided, is 0.225 on average over the colours.
    _assert_uniform(np.array([drawn.noise for drawn in _changed(draws, "noise")]) / 0.225, 0.0, 0.1)


@pytest.mark.parametrize(
    ("name", "neutral", "low", "high"), [("blur", 0.0, 0.5, 1.0), ("low_resolution", 1.0, 0.5, 1.0)]
)
def test_blur_and_low_resolution_change_half_of_the_channels(
    draws: list[AugmentationParams], name: str, neutral: float, low: float, high: float
) -> None:
    values = _channel_values(draws, name)
    touched = values != neutral
    _assert_share(int(touched.sum()), touched.size, 0.5)
    # Independently: one sample in eight is left alone altogether.
    _assert_share(int((~touched).all(axis=1).sum()), len(touched), 1 / 8)
    _assert_uniform(values[touched], low, high)


def test_blur_differs_along_height_and_width(draws: list[AugmentationParams]) -> None:
    blurs = np.array([drawn.blur for drawn in _changed(draws, "blur")])
    pairs = blurs[(blurs > 0).all(axis=2)]
    assert abs(np.corrcoef(pairs.T)[0, 1]) < 4 / math.sqrt(len(pairs))


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("brightness", 0.75, 1.25), ("contrast", 0.75, 1.25), ("gamma_inverted", 0.7, 1.5), ("gamma", 0.7, 1.5)],
)
def test_factors_and_exponents_lie_below_and_above_one_equally_often(
    draws: list[AugmentationParams], name: str, low: float, high: float
) -> None:
    values = _channel_values(draws, name)
    _assert_share(int((values < 1).sum()), values.size, 0.5)
    _assert_uniform(values[values < 1], low, 1.0)
    _assert_uniform(values[values > 1], 1.0, high)


@pytest.mark.parametrize("name", ["blur", "brightness", "contrast", "low_resolution", "gamma_inverted", "gamma"])
def test_channels_have_independent_numbers(draws: list[AugmentationParams], name: str) -> None:
    values = _channel_values(draws, name)
    assert values.shape[1] == 3
    between = np.corrcoef(values.T)[np.triu_indices(3, k=1)]
    assert np.abs(between).max() < 4 / math.sqrt(len(values))


# --- What each transform does


def _applied(image: torch.Tensor, **parameters: object) -> torch.Tensor:
    mask = torch.zeros(len(image), *image.shape[2:]).long()
    return augment_batch(image, mask, [AugmentationParams(**parameters)] * len(image))[0]  # type: ignore[arg-type]


def _row(*values: float) -> torch.Tensor:
    return torch.tensor(values).view(1, 1, 1, -1)


def test_a_scale_of_one_point_four_shrinks_a_disc_of_60_px_to_43() -> None:
    y, x = torch.meshgrid(torch.arange(128) - 63.5, torch.arange(128) - 63.5, indexing="ij")
    disc = (y**2 + x**2 < 30**2).long()[None]
    _, smaller = augment_batch(disc[:, None].float(), disc, [AugmentationParams(scale=1 / 1.4)])
    assert 2 * math.sqrt(smaller.sum().item() / math.pi) == pytest.approx(60 / 1.4, abs=0.3)


def test_gamma_restores_mean_and_deviation() -> None:
    # Half-way between 0.2 and 0.6 becomes a quarter of the way: 0.2, 0.3, 0.6 with mean 0.36667 and deviation 0.16997,
    # before 0.4 and 0.16330. So the distances from the mean are multiplied by 0.96077.
    torch.testing.assert_close(
        _applied(_row(0.2, 0.4, 0.6), gamma=2.0), _row(0.23987, 0.33595, 0.62418), atol=1e-5, rtol=0
    )


def test_inverted_gamma_is_gamma_of_the_negative() -> None:
    # The values above, mirrored about 0.4.
    expected = _row(0.17582, 0.46405, 0.56013)
    torch.testing.assert_close(_applied(_row(0.2, 0.4, 0.6), gamma_inverted=2.0), expected, atol=1e-5, rtol=0)


def test_gamma_stretches_every_channel_by_itself() -> None:
    image = torch.stack([torch.rand(16, 16) * 0.2 + 0.3, torch.rand(16, 16) * 0.4 + 0.2, torch.full((16, 16), 0.5)])[
        None
    ]
    changed = _applied(image, gamma=(0.7, 1.5, 1.2), gamma_inverted=(1.4, 0.8, 0.9))
    torch.testing.assert_close(changed.mean(dim=(2, 3)), image.mean(dim=(2, 3)), atol=1e-5, rtol=0)
    torch.testing.assert_close(changed.std(dim=(2, 3)), image.std(dim=(2, 3)), atol=1e-5, rtol=0)
    assert not torch.allclose(changed[:, :2], image[:, :2], atol=1e-3)


def test_contrast_that_keeps_the_range_clips_to_it() -> None:
    # About the mean of 0.4 the ends go to 0.15 and 0.65.
    image = _row(0.2, 0.3, 0.5, 0.6)
    wider = _row(0.15, 0.275, 0.525, 0.65)
    torch.testing.assert_close(_applied(image, contrast=1.25), wider)
    torch.testing.assert_close(_applied(image, contrast=1.25, keeps_range=True), wider.clamp(0.2, 0.6))


def test_low_resolution_rises_linearly() -> None:
    # Of eight pixels the second, fourth, sixth and eighth remain, or of each pair the right one.
    image = torch.tensor([9, 2, 9, 4, 9, 8, 9, 6.0]).div(10).expand(1, 1, 8, 8).contiguous()
    expected = torch.tensor([2, 2.5, 3.5, 5, 7, 7.5, 6.5, 6]).div(10)
    torch.testing.assert_close(_applied(image, low_resolution=0.5)[0, 0, 3], expected)


@pytest.mark.parametrize(
    ("name", "value", "neutral"),
    [("brightness", 1.25, 1.0), ("contrast", 0.8, 1.0), ("gamma", 1.4, 1.0), ("gamma_inverted", 1.4, 1.0),
     ("low_resolution", 0.5, 1.0), ("blur", (0.8, 0.8), (0.0, 0.0))],
)  # fmt: skip
def test_a_number_for_one_channel_changes_that_channel_alone(name: str, value: object, neutral: object) -> None:
    torch.manual_seed(0)
    image = torch.rand(2, 3, 16, 16)
    changed = _applied(image, **{name: (neutral, value, neutral)})
    torch.testing.assert_close(changed[:, [0, 2]], image[:, [0, 2]], atol=1e-5, rtol=0)
    assert not torch.allclose(changed[:, 1], image[:, 1], atol=1e-2)
    whole = _applied(image, **{name: (value,) * 3})
    torch.testing.assert_close(changed[:, 1], whole[:, 1])


def test_a_blur_along_the_height_leaves_rows_as_they_are() -> None:
    rows = torch.rand(1, 3, 1, 16).expand(1, 3, 16, 16).contiguous()
    torch.testing.assert_close(_applied(rows, blur=((1.0, 0.0),) * 3), rows)
    assert not torch.allclose(_applied(rows, blur=((0.0, 1.0),) * 3), rows, atol=1e-2)


# --- guidino 0.1.0's reading, with which its interrupted runs go on


def test_the_earlier_gamma_keeps_the_darkest_and_the_brightest_of_all_channels() -> None:
    image = torch.tensor([0.2, 0.4, 0.6, 0.6]).view(1, 2, 1, 2)
    plain, inverted = (_applied(image, gamma=sign * 2.0, is_earlier=True).flatten() for sign in (1, -1))
    # Half-way of the range 0.4 becomes a quarter of it.
    torch.testing.assert_close(plain, torch.tensor([0.2, 0.3, 0.6, 0.6]))
    torch.testing.assert_close(inverted, torch.tensor([0.2, 0.5, 0.6, 0.6]))


def test_the_earlier_augmentation_is_that_of_guidino_0_1_0() -> None:
    """The values were recorded with commit 45086b3, from 200 draws of its "nnunet"."""
    y, x, c = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), torch.arange(3.0), indexing="ij")
    waves = ((0.7 * y + 1.3 * x * (c + 1) + c).sin() / 2 + 0.5).permute(2, 0, 1)
    image = waves.expand(200, 3, 16, 16).contiguous()
    draws = [draw_augmentation("nnunet-0.1", random_generator(3, 1, case)) for case in range(200)]
    changed, mask = augment_batch(image, (image[:, 0] > 0.5).long(), draws)
    assert changed.mean(dim=(0, 2, 3)).tolist() == pytest.approx([0.481455, 0.480002, 0.480389], abs=2e-6)
    assert changed.square().mean(dim=(0, 2, 3)).tolist() == pytest.approx([0.332545, 0.313696, 0.315095], abs=2e-6)
    assert changed[67, :, 5, 7].tolist() == pytest.approx([0.36034, 0.75581, 0.22295], abs=2e-5)
    assert mask.sum().item() == 24837
