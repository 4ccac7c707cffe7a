"""What drawing a guide and drawing tokens have in common: the task, its options, its end."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from guidino_cli.commands.picture_inputs import some
from guidino_cli.errors import DataError, PartialError
from guidino_cli.progress import counted, say, track


@dataclass(frozen=True)
class BackboneView:
    """How to look at tokens; None leaves the choice to the program.

    Attributes:
        backbone: Registered name; "guidino-tiny" by default, "dinov3" with weights. A run has its own.
        weights: Local folder or hub id.
        layer: Block, counted from 1; a run has its own.
        at: "X,Y", the pixel whose patch is compared with the others.
        scale: Enlarges the image first.
        tokens: With a run, draw its tokens even without `at`.
    """

    backbone: str | None = None
    weights: str | None = None
    layer: int | None = None
    at: str | None = None
    scale: float | None = None
    tokens: bool = False


@dataclass(frozen=True)
class Drawing:
    """How pictures look.

    Attributes:
        limits: "all" (colours run over the values of all images), "image" (of each) or "LOW,HIGH".
        spacing_mm: Width of a pixel, for scale bars.
    """

    limits: str = "all"
    spacing_mm: float | None = None


@dataclass(frozen=True)
class Task:
    """What is drawn, and where to.

    Attributes:
        files: Images.
        out: Folder of the pictures.
        truth: Where masks are, or None.
    """

    files: Sequence[Path]
    out: Path
    truth: Path | None


def each_image(files: dict[str, Path], what: str, act: Callable[[str, Path], None]) -> list[str]:
    """Do something with every image; the messages of those that cannot be read."""
    failed = []
    for name, path in track(files.items(), total=len(files), description=what):
        try:
            act(name, path)
        except DataError as error:
            failed.append(str(error))
            say(f"guidino: {error}")
    return failed


def nothing_drawn(files: Sequence[Path], failed: Sequence[str]) -> DataError:
    return DataError(f"none of {len(files)} images could be drawn: {some(failed)}" if failed[1:] else failed[0])


def finish(task: Task, written: Sequence[str], failed: Sequence[str], *, kind: str, more: Sequence[str]) -> None:
    made = len(written)
    beside = f"; beside them {', '.join(more)}" if more else ""
    print(f"{counted(made, 'picture')} in {task.out} (NAME_{kind}.png){beside}")
    if failed:
        raise PartialError(f"{len(failed)} of {counted(len(task.files), 'image')} could not be drawn: {some(failed)}")
