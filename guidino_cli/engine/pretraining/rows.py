"""A row of the history: as a line for people, and whether the last ones say that the student has collapsed."""

from collections.abc import Sequence
from typing import Any

from guidino_cli.progress import spoken

Row = dict[str, Any]

# So many rows in a row, of features that are all but the same.
_ROWS, _COSINE, _RANK = 3, 0.999, 1.5
_SAID_APART = ("step", "stage", "lr", "weight_decay", "images_per_second", "seconds", "loss", "rank", "cosine")


def collapse(history: Sequence[Row]) -> str | None:
    """What is wrong and what to change where the student says the same of all images, or None."""
    rows = history[-_ROWS:]
    if len(rows) < _ROWS or not all(row.get("cosine", 0) > _COSINE or row.get("rank", 9) < _RANK for row in rows):
        return None
    found = ", ".join(f"{name} {rows[-1][name]:.4g}" for name in ("cosine", "rank") if name in rows[-1])
    ways = "a lower stages.0.lr, a longer stages.0.warmup_steps, a higher stages.0.momentum or a higher dino.koleo"
    return f"the student says the same of all images ({found}), so the run is dead; begin anew with {ways}"


def told(row: Row, *, steps: int) -> str:
    """A row of the history in one line of plain text."""
    named = {name: value for name, value in row.items() if name not in _SAID_APART}
    terms = ", ".join(f"{name} {value:.3f}" for name, value in named.items() if not _is_measure(name))
    watched = [f"{name} {row[name]:.{digits}f}" for name, digits in (("rank", 1), ("cosine", 3)) if name in row]
    measures = [f"{name.replace('_', ' ')} {value:.2f}" for name, value in named.items() if _is_measure(name)]
    left = (steps - row["step"]) * row["seconds"] / row["step"]
    speed = [f"{row['images_per_second']:.3g} images/s", f"{spoken(left)} left"]
    return ", ".join([f"step {row['step']}/{steps}: loss {row['loss']:.4f} ({terms})", *measures, *watched, *speed])


def _is_measure(name: str) -> bool:
    """Whether it is watched only, and no term of the loss."""
    return name == "gradient_norm" or name.endswith("_entropy")
