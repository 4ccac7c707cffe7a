"""Figures of a pretraining run: its curve, and snapshots of the tokens of some fixed images."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from guidino_cli.commands.runs.figures import CURVE_FILE, HistoryRows, draw_or_warn, evenly_spaced, throttled
from guidino_cli.engine.pretraining.folder import PretrainFolder
from guidino_cli.engine.pretraining.history import take_snapshot
from guidino_cli.files import write_atomically
from guidino_cli.plots.pretraining import TokenTimeline, pretraining_figure, token_sheet_figure
from guidino_cli.ssl.networks import TokenEncoder

TOKENS_FILE = "tokens.png"
_SNAPSHOTS = "looks"
_NUM_IMAGES, _NUM_STEPS = 4, 5
_LONG_SIDE = 448


def pretrain_curve_callback(folder: PretrainFolder, *, every_seconds: float = 60.0) -> Callable[[HistoryRows], None]:
    """A callback for new rows of the history that redraws the curve at most every `every_seconds`."""
    return throttled(lambda history: save_pretrain_curve(folder, history), CURVE_FILE, every_seconds=every_seconds)


def save_pretrain_curve(folder: PretrainFolder, history: HistoryRows) -> None:
    """Write `curve.png` into a run's folder."""
    write_atomically(folder.path / CURVE_FILE, pretraining_figure(history, name=_title(folder)).savefig)


def snapshot_callback(folder: PretrainFolder, encoder: TokenEncoder, paths: Sequence[Path]) -> Callable[[int], None]:
    """A callback for some steps: it saves a snapshot, and draws it beside earlier ones.

    Args:
        folder: Folder of the run.
        encoder: Network of the snapshots, in evaluation mode when the callback is called.
        paths: All images of the run.
    """
    chosen = evenly_spaced(paths, _NUM_IMAGES)

    def update(step: int) -> None:
        draw_or_warn(lambda: _save_snapshot(folder, encoder, chosen, step), TOKENS_FILE)

    return update


def remove_pretrain_figures(folder: PretrainFolder) -> None:
    """Remove the figures of a run that is overwritten."""
    figures = [folder.path / name for name in (CURVE_FILE, TOKENS_FILE)]
    for path in (*figures, *(folder.path / _SNAPSHOTS).glob("*.npz")):
        path.unlink(missing_ok=True)


def _save_snapshot(folder: PretrainFolder, encoder: TokenEncoder, chosen: Sequence[Path], step: int) -> None:
    snapshots = [take_snapshot(encoder, path, long_side=_LONG_SIDE) for path in chosen]
    maps: dict[str, Any] = {
        f"image{number}": (item.components * 255).round().astype(np.uint8) for number, item in enumerate(snapshots)
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **maps)
    file = folder.path / _SNAPSHOTS / f"{step:08d}.npz"
    write_atomically(file, lambda temporary: temporary.write_bytes(buffer.getbuffer()))
    saved = [file for file in sorted((folder.path / _SNAPSHOTS).glob("*.npz")) if int(file.stem) <= step]
    files = evenly_spaced(saved, _NUM_STEPS)
    stored = [np.load(file) for file in files]
    timelines = [
        TokenTimeline(item.path.name, item.pixels, [maps[f"image{number}"] / 255 for maps in stored])
        for number, item in enumerate(snapshots)
    ]
    figure = token_sheet_figure(timelines, steps=[int(file.stem) for file in files], name=_title(folder))
    write_atomically(folder.path / TOKENS_FILE, figure.savefig)


def _title(folder: PretrainFolder) -> str:
    return f"pretraining {folder.path.resolve().name}"
