"""The contact sheet of a prepared data set: which cases are on it, and what is written beside them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from guidino_cli.data.images import read_image, read_label_map
from guidino_cli.files import write_atomically
from guidino_cli.preparation.report import Summary, count_parts
from guidino_cli.preparation.splits import PARTS
from guidino_cli.preparation.threads import in_threads
from guidino_cli.types import Case

_TILES = 24


def write_sheet(summary: Summary, folder: Path) -> None:
    """Write `contact_sheet.png`."""
    from guidino_cli.plots.contact_sheet import Tile, contact_sheet

    def tile(case: Case) -> Tile:
        assert case.mask is not None
        share = f"{100 * (case.foreground or 0):.1f} % foreground"
        return Tile(read_image(case.image)[0], read_label_map(case.mask), case.id, f"{case.split}, {share}")

    chosen = _choose_tiles(summary.cases, _TILES)
    counts = ", ".join(f"{count} {part}" for part, count in count_parts(summary.cases).items() if count)
    ordered = "smallest to largest foreground of each part"
    which = f"{len(chosen)} of {len(summary.cases)} cases, {ordered}" if len(chosen) < len(summary.cases) else counts
    heading = f"{summary.name} ({counts})\n{which}" if which != counts else f"{summary.name} ({counts})\nall, {ordered}"
    figure = contact_sheet(in_threads(tile, chosen, "contact sheet"), heading=heading, classes=summary.classes)
    write_atomically(folder / "contact_sheet.png", lambda place: figure.savefig(place))


def _choose_tiles(cases: Sequence[Case], count: int) -> list[Case]:
    """Cases for the contact sheet: of each part its share, at least two, evenly from little to much foreground."""
    chosen: list[Case] = []
    for part in PARTS:
        own = sorted((case for case in cases if case.split == part), key=lambda case: (case.foreground or 0, case.id))
        wanted = min(len(own), max(2, round(count * len(own) / len(cases))))
        positions = np.linspace(0, len(own) - 1, wanted).round().astype(int).tolist() if own else []
        chosen += [own[position] for position in positions]
    return chosen[:count]
