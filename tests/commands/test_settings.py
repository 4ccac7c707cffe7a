"""`guidino settings`, and the page of all settings."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, PositiveInt

from guidino_cli.commands.settings import format_page
from guidino_cli.config import RunConfig
from guidino_cli.pretrain_config import PretrainConfig
from guidino_cli.settings import list_settings
from guidino_cli.settings_reference import SettingInfo, list_setting_infos

Guidino = Callable[..., Any]
PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


@dataclass(frozen=True)
class Inner:
    """A section.

    Attributes:
        share: A share that goes
            over two lines.
    """

    share: Annotated[float, Field(ge=0, lt=1)] = 0.5


@dataclass(frozen=True)
class Outer:
    """Another one.

    Attributes:
        count: How many.
        kind: Which.
        inner: A section below.
        parts: Several of them.
    """

    count: PositiveInt
    kind: Literal["no", "auto", True] = "auto"
    inner: Inner | None = None
    parts: list[Inner] = field(default_factory=lambda: [Inner()])


def test_types_defaults_and_meanings_are_read_from_the_dataclasses() -> None:
    share = ("number from 0 to below 1", "0.5", "A share that goes over two lines.")
    assert list(list_setting_infos(Outer)) == [
        SettingInfo("count", "whole number above 0", "", "How many."),
        SettingInfo("kind", "no, auto or true", "auto", "Which."),
        SettingInfo("inner", "section, or null", "null", "A section below."),
        SettingInfo("inner.share", *share),
        SettingInfo("parts", "list of sections", "", "Several of them."),
        SettingInfo("parts.0.share", *share),
    ]


@pytest.mark.parametrize("section", [RunConfig, PretrainConfig])
def test_every_setting_has_a_meaning(section: type) -> None:
    infos = list(list_setting_infos(section))
    assert [info.path for info in infos] == list_settings(section)
    assert [info.path for info in infos if not info.meaning] == []


def test_the_page_of_all_settings_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == format_page(), "run: guidino settings --markdown > docs/settings.md"


def test_a_word_selects_settings_and_an_unknown_one_gets_a_suggestion(guidino: Guidino) -> None:
    lines = guidino("settings", "train.lr").stdout.splitlines()
    assert lines[0] == "train.lr = 0.0001  (number above 0)"
    assert lines[1].startswith("    Learning rate")
    assert len(lines) == 2
    assert "stages.0.steps" in guidino("settings", "--pretrain", "steps").stdout
    outcome = guidino("settings", "bach_size")
    assert outcome.code == 2
    assert "did you mean 'train.batch_size'" in outcome.stderr


def test_all_settings_fit_80_columns(guidino: Guidino, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = guidino("settings").stdout.splitlines()
    assert max(len(line) for line in lines if line.startswith(" ")) <= 80
