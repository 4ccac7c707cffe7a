"""An option is declared once, in a dataclass, and reaches the command line and the code from there."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from guidino_cli.cli import scoring
from guidino_cli.cli.dataclass_options import expand_dataclasses
from guidino_cli.options.evaluation import CompareOptions, EvaluateOptions


@dataclass(frozen=True)
class Drawing:
    width: Annotated[int, typer.Option(help="Pixels.")] = 3
    colours: Annotated[list[str], typer.Option("--colour", "-c", help="Repeatable.")] = field(default_factory=list)


@dataclass(frozen=True)
class DrawOptions:
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="File.")]
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder.")]
    drawing: Drawing


Received = dict[str, Any]


def invoke(command: Any, *argv: str) -> str:
    app = typer.Typer(rich_markup_mode=None)
    app.command()(command)
    result = CliRunner().invoke(app, argv)
    assert result.exit_code == 0, result.output
    return result.output


def draw_command(received: Received) -> Any:
    @expand_dataclasses
    def draw(options: DrawOptions, seed: Annotated[int, typer.Option(help="Random seed.")] = 0) -> None:
        """Draw a file."""
        received.update(options=options, seed=seed)

    return draw


def test_fields_become_arguments_and_options_with_their_help_and_defaults() -> None:
    shown = " ".join(invoke(draw_command({}), "--help").split())
    assert "SOURCE <path> File. [required]" in shown
    assert "-o, --out <path> Folder. [required]" in shown
    assert "--width <int> Pixels. [default: 3]" in shown
    assert shown.index("--out") < shown.index("--colour") < shown.index("--seed")
    assert "Draw a file." in shown


def test_a_command_receives_its_dataclass_also_a_nested_one() -> None:
    received: Received = {}
    invoke(draw_command(received), "a.png", "-o", "b", "-c", "red", "--colour", "blue", "--seed", "4")
    assert received == {"options": DrawOptions(Path("a.png"), Path("b"), Drawing(3, ["red", "blue"])), "seed": 4}


def test_a_default_factory_gives_the_default() -> None:
    received: Received = {}
    invoke(draw_command(received), "a.png", "-o", "b")
    assert received["options"].drawing == Drawing()


def test_two_parameters_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="duplicate parameter name: 'width'"):

        @expand_dataclasses
        def command(drawing: Drawing, width: Annotated[int, typer.Option()] = 0) -> None:
            """Nothing."""


@dataclass(frozen=True)
class LongerOptions(EvaluateOptions):
    """The options of `evaluate` and one more: this field is all that a new option needs on the command line."""

    max_lesions: Annotated[int, typer.Option(help="Lesions scored at most.")] = 7


def test_an_option_of_evaluate_is_one_line() -> None:
    received: Received = {}

    @expand_dataclasses
    def evaluate(predictions: Annotated[Path, typer.Argument()], options: LongerOptions) -> None:
        """Score masks."""
        received["options"] = options

    assert "--max-lesions <int> Lesions scored at most. [default: 7]" in " ".join(invoke(evaluate, "--help").split())
    invoke(evaluate, "masks", "--max-lesions", "2", "--lesion-iou", "0.5")
    assert received["options"] == LongerOptions(max_lesions=2, lesion_iou=0.5)


@pytest.mark.parametrize(
    ("module", "command", "argv", "defaults"),
    [
        ("evaluate", scoring.evaluate, ("masks", "truth"), EvaluateOptions()),
        ("compare", scoring.compare, ("a", "b", "--truth", "truth"), CompareOptions()),
    ],
)
def test_the_defaults_of_a_command_are_those_of_its_dataclass(
    monkeypatch: pytest.MonkeyPatch, module: str, command: Any, argv: tuple[str, ...], defaults: object
) -> None:
    received: list[object] = []
    monkeypatch.setattr(f"guidino_cli.commands.{module}.run", lambda *arguments: received.extend(arguments))
    invoke(command, *argv)
    assert received[-1] == defaults
