"""Parts from names and options: what fits is made, what does not is explained."""

import sys
from types import SimpleNamespace

import pytest

from guidino_cli.errors import ConfigError, WeightsError
from guidino_cli.registry import create

REGISTRY = {
    "unet": "guidino_cli.models.segmenters.unet:UNet",
    "absent": "a_module_that_does_not_exist:Thing",
    "family": f"{__name__}:family",
    "moody": f"{__name__}:moody",
}


def family(*, variant: str = "none", width: int = 1) -> tuple[str, int]:
    """A part that comes in variants."""
    return variant, width


def moody(*, error: type[Exception]) -> None:
    """A part that fails."""
    raise error("this way")


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """This file as a module, since `family` is in it."""
    monkeypatch.setitem(sys.modules, __name__, SimpleNamespace(family=family, moody=moody))


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


@pytest.mark.parametrize("error", [KeyError, AttributeError, OverflowError, ZeroDivisionError, RecursionError])
def test_whatever_a_part_raises_about_its_options_is_the_users_error(error: type[Exception]) -> None:
    with pytest.raises(ConfigError, match=r"segmenter moody with options .*this way"):
        create("segmenter", "moody", REGISTRY, {"error": error})


@pytest.mark.parametrize("error", [MemoryError, FileNotFoundError, WeightsError])
def test_errors_of_the_machine_and_of_files_stay_what_they_are(error: type[Exception]) -> None:
    with pytest.raises(error, match="this way"):
        create("segmenter", "moody", REGISTRY, {"error": error})


def test_a_part_whose_name_is_not_asked_for_is_not_imported() -> None:
    create("segmenter", "unet", REGISTRY, {"width": 4}, num_classes=2)
    with pytest.raises(ModuleNotFoundError):
        create("segmenter", "absent", REGISTRY, {})


def test_what_follows_a_colon_is_the_variant() -> None:
    assert create("segmenter", "family:Unet:resnet34", REGISTRY, {"width": 2}) == ("Unet:resnet34", 2)


def test_a_part_with_variants_has_a_default_one() -> None:
    assert create("segmenter", "family", REGISTRY, {}) == ("none", 1)


def test_a_variant_of_a_part_that_has_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="segmenter unet has no variants: write unet, not unet:wide"):
        create("segmenter", "unet:wide", REGISTRY, {}, num_classes=2)


def test_an_unknown_name_with_a_variant_is_refused_by_its_name() -> None:
    with pytest.raises(ConfigError, match="unknown segmenter 'famly:Unet'; did you mean 'family'"):
        create("segmenter", "famly:Unet", REGISTRY, {})


def test_a_variant_is_said_once() -> None:
    with pytest.raises(ConfigError, match="unknown option 'variant'"):
        create("segmenter", "family:Unet", REGISTRY, {"variant": "Linknet"})
