"""Parts from names and options: what fits is made, what does not is explained."""

import pytest

from guidino_cli.errors import ConfigError
from guidino_cli.registry import create

REGISTRY = {"unet": "guidino_cli.models.segmenters.unet:UNet", "absent": "a_module_that_does_not_exist:Thing"}


def test_a_part_is_made_with_the_options_and_the_given_values() -> None:
    unet = create("segmenter", "unet", REGISTRY, {"width": 4}, num_classes=3)
    assert unet.head.weight.shape == (3, 4, 1, 1)


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown segmenter 'unte'; did you mean 'unet'"):
        create("segmenter", "unte", REGISTRY, {}, num_classes=2)


def test_an_unknown_option_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match="segmenter unet: unknown option 'widht'; did you mean 'width'"):
        create("segmenter", "unet", REGISTRY, {"widht": 4}, num_classes=2)


def test_a_value_that_the_program_sets_is_no_option() -> None:
    with pytest.raises(ConfigError, match="unknown option 'num_classes'"):
        create("segmenter", "unet", REGISTRY, {"num_classes": 4}, num_classes=2)


def test_a_missing_option_is_named() -> None:
    with pytest.raises(ConfigError, match="num_classes"):
        create("segmenter", "unet", REGISTRY, {})


@pytest.mark.parametrize("width", ["wide", -4])
def test_a_value_that_the_part_cannot_use_is_the_users_error(width: object) -> None:
    with pytest.raises(ConfigError, match="segmenter unet"):
        create("segmenter", "unet", REGISTRY, {"width": width}, num_classes=2)


def test_a_part_whose_name_is_not_asked_for_is_not_imported() -> None:
    create("segmenter", "unet", REGISTRY, {"width": 4}, num_classes=2)
    with pytest.raises(ModuleNotFoundError):
        create("segmenter", "absent", REGISTRY, {})
