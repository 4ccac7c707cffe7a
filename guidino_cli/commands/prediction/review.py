"""`review.csv` and `review.html` next to the masks of `predict`: which of them to review first, without true masks."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from guidino_cli import __version__
from guidino_cli.engine.prediction.quality import CaseQuality
from guidino_cli.engine.risk.expected_dice import ExpectedDice
from guidino_cli.errors import DataError
from guidino_cli.files import write_atomically, write_text
from guidino_cli.progress import pluralize
from guidino_cli.tables import to_csv

if TYPE_CHECKING:
    from PIL import Image

REVIEW_FILES = ("review.csv", "review.html")
PICTURE_SIDE = 420
"""Pixels of the longer side of an image on the page."""
_TABLE_CASES = 2000
"""Rows of the page's own table; the CSV has all."""
_SCORES = tuple(item.name for item in fields(CaseQuality))
_HEADINGS = ("rank", "case", "expected_dice", "expected_dice_error", *_SCORES, "mask", "image")


class ReviewRow(NamedTuple):
    """A mask of the list.

    Attributes:
        name: Path of the mask below its folder, without suffix.
        mask: The same with suffix.
        image: Path of the image.
        quality: Its scores; None for a mask of an earlier version that kept none.
        expected: Expected Dice, if it is known.
    """

    name: str
    mask: str
    image: str
    quality: CaseQuality | None
    expected: float | None


@dataclass(frozen=True)
class Review:
    """The list of masks of a folder.

    Attributes:
        rows: Worst first.
        expected: The regression of the expected Dice, or why there is none.
        failed: Number of images without a mask.
        noun: "image" or "volume".
    """

    rows: Sequence[ReviewRow]
    expected: ExpectedDice | str
    failed: int
    noun: str

    @property
    def order(self) -> str:
        """Name of the column by which the list is sorted."""
        first = next((row.quality for row in self.rows if row.quality is not None), None)
        return "agreement" if first is not None and first.agreement is not None else "mean_probability"

    @property
    def error(self) -> float | None:
        """Mean absolute error of the expected Dice."""
        return None if isinstance(self.expected, str) else self.expected.error


def remove_review(out: Path) -> None:
    """Remove the list of an earlier call, whose masks may be about to be replaced."""
    for name in REVIEW_FILES:
        (out / name).unlink(missing_ok=True)


def collect_review(records: Path, *, suffix: str, expected: ExpectedDice | str, noun: str) -> Review:
    """Read the records of all masks, whatever calls made them; of several records of a mask the last one counts.

    Args:
        records: predictions.jsonl.
        suffix: Of the masks.
        expected: See `Review`.
        noun: See `Review`.
    """
    rows: dict[str, ReviewRow] = {}
    failed: set[str] = set()
    for record in _read_records(records):
        image, mask = str(record.get("image")), record.get("mask")
        failed.discard(image)
        if record.get("status") != "ok" or not isinstance(mask, str):
            failed.add(image)
            continue
        quality = _read_quality(record.get("quality"))
        value = None if quality is None or isinstance(expected, str) else expected.predict(quality)
        rows[mask] = ReviewRow(mask.removesuffix(suffix), mask, image, quality, value)
    kept = [row for row in rows.values() if row.image not in failed]
    return Review(sorted(kept, key=_sort_key), expected, len(failed), noun)


def _sort_key(row: ReviewRow) -> tuple[float, float, str]:
    if row.quality is None:
        return (2.0, 0.0, row.name)
    return (row.quality.surety, row.quality.mean_probability, row.name)


def _read_records(path: Path) -> Iterator[dict[str, Any]]:
    with suppress(FileNotFoundError), path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            # A kill may have left half a line.
            with suppress(ValueError):
                record = json.loads(line)
                if isinstance(record, dict):
                    yield record


def _read_quality(content: object) -> CaseQuality | None:
    if not isinstance(content, dict) or not {"mean_probability", "soft_dice"} <= content.keys():
        return None
    known = {name: content[name] for name in _SCORES if name in content}
    return CaseQuality(**known) if all(isinstance(item, int | float) for item in known.values()) else None


def quality_record(quality: CaseQuality) -> dict[str, float]:
    """The scores for predictions.jsonl, without those that do not exist."""
    return {name: round(value, 6) for name, value in asdict(quality).items() if value is not None}


def write_csv(review: Review, out: Path) -> None:
    """Write `review.csv`: a row per mask, worst first."""
    write_text(out / REVIEW_FILES[0], to_csv(_HEADINGS, [_csv_row(review, *item) for item in _ranked(review)]))


def _ranked(review: Review) -> list[tuple[int, ReviewRow]]:
    return list(enumerate(review.rows, start=1))


def _csv_row(review: Review, rank: int, row: ReviewRow) -> list[object]:
    scores = [None] * len(_SCORES) if row.quality is None else [getattr(row.quality, name) for name in _SCORES]
    error = None if row.expected is None else review.error
    numbers = ["" if value is None else f"{value:.4f}" for value in (row.expected, error, *scores)]
    return [rank, row.name, *numbers, row.mask, row.image]


def write_page(
    review: Review,
    out: Path,
    *,
    draw: Callable[[ReviewRow], "Image.Image"],
    pictures: int,
    notes: Sequence[str],
    classes: Sequence[str],
) -> None:
    """Write `review.html`, which loads nothing from elsewhere: pictures of the worst masks, and a table.

    Args:
        review: The list.
        out: Folder of the masks.
        draw: Picture of a mask on its image; may raise `DataError`.
        pictures: How many are drawn.
        notes: Remarks about all pictures.
        classes: Class names, the background first, for the legend.
    """
    from guidino_cli.html import stream
    from guidino_cli.plots.outlines import outline_colour

    shown = _ranked(review)[:pictures]
    values = {
        "version": __version__,
        "noun": review.noun,
        "masks": pluralize(len(review.rows), "mask"),
        "failed": f"{pluralize(review.failed, review.noun)} without a mask: see failed.jsonl" if review.failed else "",
        "lines": _explain(review),
        "heading": f"Pictures of the worst {len(shown)}" if len(shown) < len(review.rows) else "Pictures",
        "legend": {name: outline_colour(index) for index, name in enumerate(classes) if index},
        "notes": notes,
        "figures": (_figure(review, rank, row, draw) for rank, row in shown),
        "headings": [_title(name) for name in _columns(review)],
        "rows": [_cells(review, rank, row) for rank, row in _ranked(review)[:_TABLE_CASES]],
        "omitted": max(0, len(review.rows) - _TABLE_CASES),
    }

    def write(path: Path) -> None:
        with path.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(stream("review.html.j2", **values))

    write_atomically(out / REVIEW_FILES[1], write)


_TITLES = {
    "expected_dice": "expected Dice",
    "mean_probability": "mean probability",
    "soft_dice": "soft Dice",
    "agreement": "agreement",
    "contrast": "guide contrast",
}
_MEANINGS = {
    "mean_probability": "mean probability of the class inside of the mask",
    "soft_dice": "Dice of the probabilities with their own mask",
    "agreement": "mean Dice of each run's own mask with the mask of the ensemble",
    "contrast": "mean of the guide inside of the mask minus that outside",
}


def _title(name: str) -> str:
    return _TITLES.get(name, name)


def _columns(review: Review) -> list[str]:
    """Columns that some mask has, the sort key first."""
    has = [name for name in _SCORES if any(getattr(row.quality, name, None) is not None for row in review.rows)]
    has.sort(key=lambda name: name != review.order)
    return ["rank", "case", *(["expected_dice"] if review.error is not None else []), *has]


def _explain(review: Review) -> list[str]:
    shown = [name for name in _columns(review) if name in _MEANINGS]
    lines = [
        f"Sorted by {_title(review.order)}, lowest first. The scores tell which masks to look at first; they do not "
        "measure how right a mask is, and an empty mask has 0."
    ]
    lines += [f"{_title(name)}: {_MEANINGS[name]}" for name in shown]
    return [*lines, describe_expected(review)]


def describe_expected(review: Review) -> str:
    """One sentence on the expected Dice: its error, or why there is none."""
    fit = review.expected
    if isinstance(fit, str):
        return f"expected Dice left out: {fit}"
    return (
        f"expected Dice: wrong by {fit.error:.2f} on average (cross-validated on {fit.cases} validation cases; their "
        f"mean, {fit.mean:.2f}, is wrong by {fit.error_of_mean:.2f}), for images like those that show the object"
    )


def _cells(review: Review, rank: int, row: ReviewRow) -> list[str]:
    found = {"rank": str(rank), "case": row.name, "expected_dice": _format(row.expected)}
    return [found.get(name) or _format(getattr(row.quality, name, None)) for name in _columns(review)]


def _format(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _figure(review: Review, rank: int, row: ReviewRow, draw: Callable[[ReviewRow], "Image.Image"]) -> dict[str, Any]:
    from guidino_cli.plots.report import data_uri

    value = _format(getattr(row.quality, review.order, None))
    lines = [f"{_title(review.order)} {value}"]
    if row.expected is not None and review.error is not None:
        lines.append(f"expected Dice {row.expected:.2f} (error {review.error:.2f})")
    if row.quality is not None and row.quality.mean_probability == 0:
        lines.append("the mask is empty")
    try:
        uri = data_uri(draw(row), kind="webp")
    except (DataError, MemoryError) as error:
        return {"title": f"{rank}. {row.name}", "lines": [*lines, f"not drawn: {error}"], "uri": ""}
    return {"title": f"{rank}. {row.name}", "lines": lines, "uri": uri}
