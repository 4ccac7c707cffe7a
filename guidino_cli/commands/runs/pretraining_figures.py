"""The pictures of a pretraining run: its curve, and what the tokens of some fixed images show from time to time."""

import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from guidino_cli.engine.pretraining.folder import PretrainFolder
from guidino_cli.engine.pretraining.history import HistoryRow, select_fixed_images, take_snapshot
from guidino_cli.files import write_atomically
from guidino_cli.plots.pretraining import TokenTimeline, pretraining_figure, token_sheet_figure
from guidino_cli.progress import log_warning
from guidino_cli.ssl.networks import TokenEncoder

PRETRAIN_CURVE_FILE, TOKENS_FILE = "curve.png", "tokens.png"
_LOOKS = "looks"
_SHOWN_IMAGES, _SHOWN_STEPS = 4, 5
_LONG_SIDE = 448


def pretrain_curve_callback(
    folder: PretrainFolder, *, every_seconds: float = 60.0
) -> Callable[[Sequence[HistoryRow]], None]:
    """A function to call after each row: it draws the curve if the last drawing is long enough ago."""
    drawn = -every_seconds

    def keep(history: Sequence[HistoryRow]) -> None:
        nonlocal drawn
        if time.monotonic() - drawn < every_seconds:
            return
        _try(lambda: save_pretrain_curve(folder, history), PRETRAIN_CURVE_FILE)
        drawn = time.monotonic()

    return keep


def save_pretrain_curve(folder: PretrainFolder, history: Sequence[HistoryRow]) -> None:
    """Write `curve.png` into a run's folder."""
    write_atomically(folder.path / PRETRAIN_CURVE_FILE, pretraining_figure(history, name=_title(folder)).savefig)


def snapshot_callback(folder: PretrainFolder, trunk: TokenEncoder, paths: Sequence[Path]) -> Callable[[int], None]:
    """A function to call at some steps: it notes what the tokens show, and draws that beside what they showed before.

    Args:
        folder: Of the run.
        trunk: What is looked through, in evaluation mode when the function is called.
        paths: All images of the run.
    """
    chosen = select_fixed_images(paths, count=_SHOWN_IMAGES)

    def keep(step: int) -> None:
        _try(lambda: _look(folder, trunk, chosen, step), TOKENS_FILE)

    return keep


def remove_pretrain_figures(folder: PretrainFolder) -> None:
    """Forget the pictures of a run that is written over."""
    for path in (folder.path / PRETRAIN_CURVE_FILE, folder.path / TOKENS_FILE, *(folder.path / _LOOKS).glob("*.npz")):
        path.unlink(missing_ok=True)


def _look(folder: PretrainFolder, trunk: TokenEncoder, chosen: Sequence[Path], step: int) -> None:
    seen = [take_snapshot(trunk, path, long_side=_LONG_SIDE) for path in chosen]
    maps: dict[str, Any] = {
        f"image{number}": (item.components * 255).round().astype(np.uint8) for number, item in enumerate(seen)
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **maps)
    write_atomically(folder.path / _LOOKS / f"{step:08d}.npz", lambda place: place.write_bytes(buffer.getbuffer()))
    files = _spread([file for file in sorted((folder.path / _LOOKS).glob("*.npz")) if int(file.stem) <= step])
    noted = [np.load(file) for file in files]
    eyes = [
        TokenTimeline(item.path.name, item.pixels, [note[f"image{number}"] / 255 for note in noted])
        for number, item in enumerate(seen)
    ]
    figure = token_sheet_figure(eyes, steps=[int(file.stem) for file in files], name=_title(folder))
    write_atomically(folder.path / TOKENS_FILE, figure.savefig)


def _spread(files: Sequence[Path]) -> list[Path]:
    """The first, the last, and some between."""
    if len(files) <= _SHOWN_STEPS:
        return list(files)
    return [files[round(index * (len(files) - 1) / (_SHOWN_STEPS - 1))] for index in range(_SHOWN_STEPS)]


def _try(draw: Callable[[], None], name: str) -> None:
    try:
        draw()
    except Exception as error:  # No picture is worth a run: its state and history are safe, and it goes on.
        log_warning(f"{name} could not be drawn ({error}); pretraining goes on")


def _title(folder: PretrainFolder) -> str:
    return f"pretraining {folder.path.resolve().name}"
