"""Messages for names that do not exist."""

import pytest

from guidino_cli.errors import closest_names, unknown_name

_MANY = [f"kvasir-{letter}net" for letter in "abcdefghijklm"]


def test_a_short_list_of_names_is_printed_in_full() -> None:
    assert unknown_name("size", "smal", ["small", "base"], lister="guidino x") == (
        "unknown size 'smal'; did you mean 'small'? (known: base, small)"
    )


def test_a_long_list_is_replaced_by_three_names_and_the_command_that_lists_all() -> None:
    line = unknown_name("preset", "kvasir-aanet", _MANY, lister="guidino presets")
    assert line.startswith("unknown preset 'kvasir-aanet'; did you mean 'kvasir-anet', '")
    assert line.endswith("'? (`guidino presets` lists all)")
    assert line.count("net'") == 4


def test_a_long_list_without_such_a_command_is_printed_in_full() -> None:
    assert all(name in unknown_name("metric", "x", _MANY) for name in _MANY)


def test_a_name_with_all_the_words_comes_before_one_of_similar_spelling() -> None:
    assert closest_names("size", ["resize", "image_size", "seed"], count=2) == ["image_size", "resize"]


@pytest.mark.parametrize("name", ["x", "--", "肝臓"])
def test_a_name_unlike_any_other_has_no_suggestion(name: str) -> None:
    assert closest_names(name, ["image_size", "resize"]) == []
