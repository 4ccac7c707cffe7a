"""Commands and options in the documentation exist."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from guidino_cli.cli import app

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "AGENTS.md", *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*.sh")])


def shown(page: Path) -> list[str]:
    """Lines that begin with `guidino`, continued ones joined: of a script, of code blocks, of `code` in a sentence."""
    text = page.read_text(encoding="utf-8")
    joined = re.sub(r"\\\n\s*", " ", text)
    lines = re.findall(r"^\s*(?:\$ )?(guidino [a-z].*)$", joined, re.M)
    if page.suffix == ".md":
        # A sentence may begin with the name of the tool: only what is indented or fenced is a command there.
        lines = re.findall(r"^(?: {4,}|\$ )(guidino [a-z].*)$", joined, re.M)
        for block in re.findall(r"^```.*?\n(.*?)^```", joined, re.M | re.S):
            lines += re.findall(r"^(?:\$ )?(guidino [a-z].*)$", block, re.M)
        lines += re.findall(r"`(guidino [a-z][^`]*)`", joined)
    return lines


def unknown_words(line: str) -> list[str]:
    """The command or the options of a line that guidino does not have."""
    arguments = shlex.split(re.split(r"\s[|;&>]|\s#", line)[0], posix=True)[1:]
    # Typer brings its own click, or takes the one that is installed: no class of it can be named.
    command: Any = typer.main.get_command(app)
    known = {"--help", "-h"}
    while hasattr(command, "commands"):
        known |= {name for item in command.params for name in item.opts}
        if not arguments or arguments[0].startswith("-"):
            break
        if arguments[0] not in command.commands:
            return [arguments[0]]
        command = command.commands[arguments.pop(0)]
    # `guidino register train` is beside `guidino register FIXED MOVING`.
    if arguments and arguments[0] in (further := getattr(command, "subcommands", {})):
        command = further[arguments.pop(0)]
    known |= {name for item in command.params for name in (*item.opts, *item.secondary_opts)}
    return [word for word in arguments if re.match(r"--?[a-z]", word) and word.split("=")[0] not in known]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_documented_option_exists(page: Path) -> None:
    wrong = {line: arguments for line in shown(page) if (arguments := unknown_words(line))}
    assert not wrong


def test_wrong_commands_and_options_are_found() -> None:
    assert sum(len(shown(page)) for page in PAGES) > 20
    assert unknown_words("guidino predict runs/a images -o masks --post auto") == []
    assert unknown_words("guidino predict runs/a images --pots auto") == ["--pots"]
    assert unknown_words("guidino weights fetch") == ["fetch"]
