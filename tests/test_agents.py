"""AGENTS.md names every command and every exit code, and fits on a page."""

import re
from pathlib import Path
from typing import Any

import typer

from guidino_cli.cli import app
from guidino_cli.errors import EXIT_CODES

PAGE = (Path(__file__).parents[1] / "AGENTS.md").read_text(encoding="utf-8")


def test_every_command_is_named() -> None:
    command: Any = typer.main.get_command(app)
    words = {word for code in re.findall(r"`([^`\n]+)`", PAGE) for word in code.split()[:1]}
    assert set(command.commands) <= words | set(re.findall(r"^    guidino ([a-z-]+)", PAGE, re.M))


def test_every_exit_code_is_named() -> None:
    sentence = PAGE.partition("Exit codes:")[2].partition("\n\n")[0]
    assert {int(code) for code in re.findall(r"\b\d+\b", sentence)} == set(EXIT_CODES)


def test_it_fits_on_a_page() -> None:
    assert len(PAGE.splitlines()) <= 60
