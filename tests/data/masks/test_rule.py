"""Parsing of --classes."""

import pytest

from guidino_cli.data.masks.rule import default_class_names, parse_classes
from guidino_cli.errors import ConfigError


def test_names_are_indices_in_order() -> None:
    assert parse_classes("background, disc,cup").names == ("background", "disc", "cup")
    assert parse_classes("background,disc").codes is None


def test_several_values_may_share_a_name() -> None:
    classes = parse_classes("255=background,128=lesion,0=lesion")
    assert classes.names == ("background", "lesion")
    assert classes.codes == {255: 0, 128: 1, 0: 1}


def test_colours_are_read_as_red_green_blue() -> None:
    assert parse_classes("#000000=background,#ff0080=tool").codes == {(0, 0, 0): 0, (255, 0, 128): 1}


@pytest.mark.parametrize(
    "text", ["polyp", "a,a", "0=background,polyp", "0=background,0=polyp", "x=a,1=b", "background,", "polyp,background"]
)
def test_invalid_class_lists_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--classes"):
        parse_classes(text)


def test_unnamed_classes_are_numbered() -> None:
    assert default_class_names(2) == ("background", "foreground")
    assert default_class_names(3) == ("background", "class_1", "class_2")
