"""Augmentation: effect of each parameter on image and mask, and how parameters are drawn."""

import math
from collections import Counter

import pytest
import torch

from guidino_cli.data.augment import AugmentationParams, Level, augment_batch, draw_augmentation, orient
from guidino_cli.data.dataset import random_generator

CHANGES = {
    "rotation": 1.0,
    "scale": 1.3,
    "shear": 0.2,
    "shift_y": 0.2,
    "shift_x": -0.2,
    "elastic": 0.02,
    "flip_y": True,
    "flip_x": True,
    "quarter_turns": 1,
    "is_mirrored": True,
    "noise": 0.05,
    "blur": 0.8,
    "brightness": 1.2,
    "contrast": 0.8,
    "offset": 0.1,
    "low_resolution": 0.5,
    "gamma": 1.3,
    "gamma_inverted": 1.3,
}
GEOMETRY = {
    "rotation",
    "scale",
    "shear",
    "shift_y",
    "shift_x",
    "flip_y",
    "flip_x",
    "elastic",
    "quarter_turns",
    "is_mirrored",
}
LEVELS: list[Level] = ["light", "mirror", "dihedral", "nnunet", "guidino", "nnunet-0.1"]


def test_quarter_turns_and_mirrors_move_pixels_without_changing_them() -> None:
    image = torch.tensor([[0.1, 0.2], [0.3, 0.4]]).view(1, 1, 2, 2)
    mask = torch.tensor([[1, 2], [3, 4]])[None]
    turned, labels = augment_batch(image, mask, [AugmentationParams(quarter_turns=1)])
    assert turned[0, 0].tolist() == torch.tensor([[0.2, 0.4], [0.1, 0.3]]).tolist()
    assert labels[0].tolist() == [[2, 4], [1, 3]]
    _, labels = augment_batch(image, mask, [AugmentationParams(quarter_turns=1, is_mirrored=True)])
    assert labels[0].tolist() == [[4, 2], [3, 1]]


def test_maps_of_another_grid_are_laid_as_their_images_are() -> None:
    torch.manual_seed(0)
    image, mask = torch.rand(8, 1, 12, 12), torch.zeros(8, 12, 12, dtype=torch.long)
    ways = [AugmentationParams(quarter_turns=i % 4, is_mirrored=i >= 4) for i in range(8)]
    turned, _ = augment_batch(image, mask, ways)
    coarse = torch.nn.functional.avg_pool2d(image, 4)
    torch.testing.assert_close(orient(coarse, ways), torch.nn.functional.avg_pool2d(turned, 4))
    assert len({tuple(item.flatten().tolist()) for item in orient(coarse[:1].expand(8, -1, -1, -1), ways)}) == 8


def test_an_offset_is_added_to_each_channel_and_is_larger_for_images_of_deviation_one() -> None:
    image, mask = torch.full((1, 3, 2, 2), 0.5), torch.zeros(1, 2, 2, dtype=torch.long)
    params = [AugmentationParams(offset=(0.1, 0.0, -0.2))]
    assert augment_batch(image, mask, params)[0][0, :, 0, 0].tolist() == pytest.approx([0.6, 0.5, 0.3])
    found = augment_batch(image, mask, params, is_unit=False)[0][0, :, 0, 0]
    assert found.tolist() == pytest.approx([0.5 + 0.1 / 0.225, 0.5, 0.5 - 0.2 / 0.225])


def test_mirror_never_turns() -> None:
    drawn = [draw_augmentation("mirror", random_generator(0, case)) for case in range(200)]
    assert Counter(item.quarter_turns for item in drawn) == {0: 200}
    assert 70 < sum(item.is_mirrored for item in drawn) < 130


def test_dihedral_draws_each_of_the_eight_ways_alike_often() -> None:
    drawn = [draw_augmentation("dihedral", random_generator(0, case)) for case in range(4000)]
    counts = Counter((item.quarter_turns, item.is_mirrored) for item in drawn)
    assert len(counts) == 8
    assert all(400 < count < 600 for count in counts.values())


def _sample(batch: int = 1, side: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.rand(batch, 3, side, side), torch.randint(0, 4, (batch, side, side))


def _applied(**parameters: object) -> tuple[torch.Tensor, torch.Tensor]:
    return augment_batch(*_sample(), [AugmentationParams(**parameters)])  # type: ignore[arg-type]


def test_the_defaults_change_nothing() -> None:
    image, mask = _sample()
    assert torch.equal(_applied()[0], image)
    assert torch.equal(_applied()[1], mask)


@pytest.mark.parametrize(("name", "axis"), [("flip_y", -2), ("flip_x", -1)])
def test_a_flip_reverses_an_axis(name: str, axis: int) -> None:
    image, mask = _sample()
    torch.testing.assert_close(_applied(**{name: True})[0], image.flip(axis))
    assert torch.equal(_applied(**{name: True})[1], mask.flip(axis))


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_rotation_by_quarter_turns_is_rot90_counter_clockwise(quarters: int) -> None:
    image, mask = _sample()
    turned = _applied(rotation=quarters * math.pi / 2)
    torch.testing.assert_close(turned[0], torch.rot90(image, quarters, (-2, -1)), atol=1e-4, rtol=0)
    assert torch.equal(turned[1], torch.rot90(mask, quarters, (-2, -1)))


@pytest.mark.parametrize(("scale", "side"), [(2.0, 16), (0.5, 4)])
def test_a_scale_of_two_makes_objects_twice_as_large(scale: float, side: int) -> None:
    image, mask = torch.zeros(1, 3, 32, 32), torch.zeros(1, 32, 32).long()
    mask[:, 12:20, 12:20] = 1
    _, scaled = augment_batch(image, mask, [AugmentationParams(scale=scale)])
    assert scaled.sum().item() == side**2
    assert scaled[0, 16 - side // 2, 16 - side // 2] == 1


def test_pixels_from_outside_the_image_are_black_background() -> None:
    image, mask = torch.ones(1, 3, 16, 16), torch.full((1, 16, 16), 3)
    image, mask = augment_batch(image, mask, [AugmentationParams(scale=0.5)])
    assert mask[0, 0, 0] == 0
    assert image[0, :, 0, 0].tolist() == [0, 0, 0]


def test_a_shift_moves_down_and_to_the_right() -> None:
    image, mask = _sample(side=20)
    shifted = _shifted(image, mask)
    torch.testing.assert_close(shifted[0][..., 4:, 2:], image[..., :-4, :-2])
    assert torch.equal(shifted[1][..., 4:, 2:], mask[..., :-4, :-2])


def _shifted(image: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return augment_batch(image, mask, [AugmentationParams(shift_y=0.2, shift_x=0.1)])


def test_a_shear_of_45_degrees_leans_vertical_lines_to_the_right_by_their_height() -> None:
    mask = torch.zeros(1, 41, 41).long()
    mask[:, :, 20] = 1
    _, leaning = augment_batch(mask[:, None].float(), mask, [AugmentationParams(shear=math.pi / 4)])
    columns = [int(leaning[0, row].nonzero().item()) for row in (10, 20, 30)]
    assert columns == [30, 20, 10]


def test_elastic_displacements_have_the_given_standard_deviation() -> None:
    ramp = torch.linspace(0, 1, 256).expand(256, 256)
    mask = torch.zeros(64, 256, 256).long()
    bends = [AugmentationParams(elastic=0.01, seed=i) for i in range(64)]
    bent, _ = augment_batch(ramp.expand(64, 1, 256, 256), mask, bends)
    inner = (bent - ramp)[..., 32:-32, 32:-32]
    # Cubic interpolation between the control points keeps about 0.7 of their deviation.
    assert 0.006 < inner.std().item() < 0.0105
    assert abs(inner.mean().item()) < 0.001


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("seed", range(20))
def test_augmentation_adds_no_values_to_a_mask(level: Level, seed: int) -> None:
    image, mask = _sample(batch=2)
    mask = mask * 60
    draws = [draw_augmentation(level, random_generator(seed, i)) for i in range(2)]
    _, moved = augment_batch(image, mask, draws)
    assert moved.dtype == mask.dtype
    assert set(moved.unique().tolist()) <= {0, 60, 120, 180}


@pytest.mark.parametrize("seed", range(10))
def test_image_and_mask_move_together(seed: int) -> None:
    """An image that is its own mask still is one where it is not blurred by interpolation."""
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    mask = ((y - 20.0) ** 2 + (x - 40.0) ** 2 < 12**2).long()[None]
    drawn = draw_augmentation("nnunet", random_generator(seed))
    geometry = AugmentationParams(rotation=drawn.rotation, scale=drawn.scale, flip_y=drawn.flip_y, flip_x=drawn.flip_x)
    image, moved = augment_batch(mask[:, None].float().expand(-1, 3, -1, -1), mask, [geometry])
    sure = (image[:, 0] > 0.99) | (image[:, 0] < 0.01)
    assert torch.equal((image[:, 0] > 0.5)[sure], (moved == 1)[sure])


@pytest.mark.parametrize("name", CHANGES)
def test_every_parameter_changes_the_image_and_only_geometric_ones_the_mask(name: str) -> None:
    image, mask = _sample()
    changed = _applied(**{name: CHANGES[name]})
    assert not torch.allclose(changed[0], image, atol=1e-3)
    assert torch.equal(changed[1], mask) == (name not in GEOMETRY)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("seed", range(20))
def test_the_image_stays_between_zero_and_one(level: Level, seed: int) -> None:
    image, mask = _sample()
    image, _ = augment_batch(image, mask, [draw_augmentation(level, random_generator(seed))])
    assert image.min() >= 0
    assert image.max() <= 1


def test_brightness_is_a_factor() -> None:
    image, mask = torch.full((1, 3, 4, 4), 0.4), torch.zeros(1, 4, 4).long()
    torch.testing.assert_close(
        augment_batch(image, mask, [AugmentationParams(brightness=1.25)])[0], torch.full((1, 3, 4, 4), 0.5)
    )


def test_contrast_keeps_the_mean() -> None:
    image, mask = torch.full((1, 3, 2, 2), 0.4), torch.zeros(1, 2, 2).long()
    image[..., 0] = 0.6
    changed = augment_batch(image, mask, [AugmentationParams(contrast=0.5)])[0]
    torch.testing.assert_close(changed[0, 0], torch.tensor([[0.55, 0.45], [0.55, 0.45]]))


def test_blur_leaves_a_constant_image_alone() -> None:
    image, mask = torch.full((1, 3, 8, 8), 0.3), torch.zeros(1, 8, 8).long()
    torch.testing.assert_close(augment_batch(image, mask, [AugmentationParams(blur=1.0)])[0], image)


def test_noise_has_the_given_standard_deviation() -> None:
    image, mask = torch.full((1, 3, 64, 64), 0.5), torch.zeros(1, 64, 64).long()
    assert augment_batch(image, mask, [AugmentationParams(noise=0.05)])[0].std().item() == pytest.approx(0.05, rel=0.05)


# --- Randomness


@pytest.mark.parametrize("level", LEVELS)
def test_augmentation_does_not_depend_on_the_rest_of_the_batch(level: Level) -> None:
    image, mask = _sample(batch=12, side=48)
    draws = [draw_augmentation(level, random_generator(0, 5, i)) for i in range(12)]
    together = augment_batch(image, mask, draws)
    for i in range(12):
        alone = augment_batch(image[i : i + 1], mask[i : i + 1], draws[i : i + 1])
        torch.testing.assert_close(together[0][i], alone[0][0])
        assert torch.equal(together[1][i], alone[1][0])


def test_augmentation_leaves_its_input_unchanged() -> None:
    image, mask = _sample()
    kept = image.clone(), mask.clone()
    augment_batch(image, mask, [AugmentationParams(**CHANGES)])  # type: ignore[arg-type]
    assert torch.equal(image, kept[0])
    assert torch.equal(mask, kept[1])


def test_equal_keys_draw_equal_parameters_and_other_keys_others() -> None:
    def drawn(*keys: int) -> AugmentationParams:
        return draw_augmentation("nnunet", random_generator(*keys))

    assert drawn(0, 1, 2) == drawn(0, 1, 2)
    assert len({drawn(0, 1, 2), drawn(1, 1, 2), drawn(0, 2, 2), drawn(0, 1, 3)}) == 4


def test_noise_does_not_advance_the_global_generator() -> None:
    image, mask = _sample()
    before = torch.get_rng_state()
    augment_batch(image, mask, [AugmentationParams(noise=0.1)])
    assert torch.equal(torch.get_rng_state(), before)


def test_level_none_draws_the_defaults() -> None:
    assert draw_augmentation("none", random_generator(0)) == AugmentationParams()


QUARTER, LEAN, TURN = math.pi / 2, math.radians(10), math.radians(30)
# Probability, smallest and largest value of every parameter that is drawn; between draws it has its default. "nnunet"
# has its own file.
DRAWN: dict[Level, dict[str, tuple[float, float, float]]] = {
    "light": {"flip_y": (0.5, 1, 1), "flip_x": (0.5, 1, 1), "brightness": (1.0, 0.8, 1.2)},
    "nnunet-0.1": {
        "flip_y": (0.5, 1, 1),
        "flip_x": (0.5, 1, 1),
        "rotation": (0.2, -math.pi, math.pi),
        "scale": (0.2, 0.7, 1.4),
        "noise": (0.1, 0.0, 0.07),
        "blur": (0.2, 0.5, 1.0),
        "brightness": (0.15, 0.75, 1.25),
        "contrast": (0.15, 0.75, 1.25),
        "low_resolution": (0.25, 0.5, 1.0),
    },
    "guidino": {
        "flip_y": (0.5, 1, 1),
        "flip_x": (0.5, 1, 1),
        "scale": (0.2, 0.7, 1.4),
        "shear": (0.2, -LEAN, LEAN),
        "shift_y": (0.2, -0.1, 0.1),
        "shift_x": (0.2, -0.1, 0.1),
        "elastic": (0.15, 0.005, 0.011),
        "noise": (0.15, 3 / 255, 7 / 255),
        "blur": (0.1, 0.5, 1.1),
        "brightness": (0.2, 0.8, 1.2),
        "contrast": (0.2, 0.8, 1.2),
    },
}
# Parameters with more than one rule; they have tests of their own.
MIXED = {"light": set(), "nnunet-0.1": {"gamma", "seed", "is_earlier"}, "guidino": {"rotation", "seed"}}


@pytest.fixture(scope="module")
def drawn_by_level() -> dict[Level, list[AugmentationParams]]:
    """4,000 draws of every level."""
    return {level: [draw_augmentation(level, random_generator(seed)) for seed in range(4000)] for level in DRAWN}


@pytest.mark.parametrize(("level", "name"), [(level, name) for level, names in DRAWN.items() for name in names])
def test_a_parameter_has_its_probability_and_is_uniform_over_its_range(
    drawn_by_level: dict[Level, list[AugmentationParams]], level: Level, name: str
) -> None:
    probability, low, high = DRAWN[level][name]
    values = [float(getattr(item, name)) for item in drawn_by_level[level]]
    drawn = [value for value in values if value != getattr(AugmentationParams(), name)]
    assert len(drawn) / len(values) == pytest.approx(probability, abs=0.03)
    assert low <= min(drawn) <= low + 0.03 * (high - low)
    assert high >= max(drawn) >= high - 0.03 * (high - low)
    assert sum(drawn) / len(drawn) == pytest.approx((low + high) / 2, abs=0.06 * (high - low))


@pytest.mark.parametrize("level", DRAWN)
def test_no_other_parameter_is_drawn(drawn_by_level: dict[Level, list[AugmentationParams]], level: Level) -> None:
    neutral = AugmentationParams()
    names = {
        name for item in drawn_by_level[level] for name in vars(item) if getattr(item, name) != getattr(neutral, name)
    }
    assert names == set(DRAWN[level]) | MIXED[level]


def test_the_earlier_gamma_works_on_the_inverted_image_in_a_quarter_of_the_samples(
    drawn_by_level: dict[Level, list[AugmentationParams]],
) -> None:
    values = [item.gamma for item in drawn_by_level["nnunet-0.1"]]
    changed = [abs(value) for value in values if abs(value) != 1.0]
    assert sum(value < 0 for value in values) / len(values) == pytest.approx(0.25, abs=0.03)
    assert len(changed) / len(values) == pytest.approx(0.3, abs=0.03)
    assert 0.7 <= min(changed) < 0.72
    assert 1.48 < max(changed) <= 1.5


def test_the_guidino_authors_turn_by_quarters_and_in_affine_samples_by_up_to_30_degrees(
    drawn_by_level: dict[Level, list[AugmentationParams]],
) -> None:
    plain = [item.rotation / QUARTER for item in drawn_by_level["guidino"] if item.scale == 1.0]
    shares = [plain.count(quarters) / len(plain) for quarters in range(4)]
    assert shares == pytest.approx([0.75, 1 / 12, 1 / 12, 1 / 12], abs=0.03)
    assert sum(shares) == pytest.approx(1.0)
    affine = [item.rotation for item in drawn_by_level["guidino"] if item.scale != 1.0]
    turns = [angle - QUARTER * round(angle / QUARTER) for angle in affine]
    assert -TURN <= min(turns) < -0.95 * TURN
    assert 0.95 * TURN < max(turns) <= TURN


def test_an_affine_sample_changes_all_of_its_parameters_together(
    drawn_by_level: dict[Level, list[AugmentationParams]],
) -> None:
    for item in drawn_by_level["guidino"]:
        assert len({item.scale != 1.0, item.shear != 0.0, item.shift_y != 0.0, item.shift_x != 0.0}) == 1
        assert (item.brightness != 1.0) == (item.contrast != 1.0)


def test_an_elastic_deformation_has_18_control_points_a_side() -> None:
    """Of 54 pixels every third lies on a control point, where interpolation changes nothing; between them, and on other
    grids, it averages."""
    ramp, mask = torch.linspace(0, 1, 54).expand(54, 54), torch.zeros(64, 54, 54).long()
    bends = [AugmentationParams(elastic=0.01, seed=seed) for seed in range(64)]
    bent, _ = augment_batch(ramp.expand(64, 1, 54, 54), mask, bends)
    moved = (bent - ramp)[:, 0, 4:-4, 4:-4] * 53 / 54
    assert moved[:, ::3, ::3].std().item() == pytest.approx(0.01, rel=0.04)
    assert moved[:, 1::3, 1::3].std().item() < 0.0085


def test_deformations_differ_along_both_axes_and_by_seed() -> None:
    y, x = torch.meshgrid(torch.linspace(0, 1, 54), torch.linspace(0, 1, 54), indexing="ij")
    image = torch.stack([y, x])[None].expand(2, -1, -1, -1)
    bends = [AugmentationParams(elastic=0.01, seed=seed) for seed in (1, 2)]
    moved = augment_batch(image, torch.zeros(2, 54, 54).long(), bends)[0] - image
    parts = moved[:, :, 8:-8, 8:-8].reshape(4, -1)
    correlation = torch.corrcoef(parts) - torch.eye(4)
    assert correlation.abs().max() < 0.4
