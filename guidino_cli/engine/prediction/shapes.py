"""Images of another shape than those a network was trained on, which `data.resize: stretch` deforms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from guidino_cli.progress import pluralize
from guidino_cli.types import Case

_TOLERANCE = 1.25
"""Cameras differ by less without harm; an image of half the width is lost (benchmarks/results/evidence.md)."""


def aspect_ratios(cases: Iterable[Case]) -> dict[str, list[float]]:
    """Smallest and largest width / height of training images, for `run.json`; {} without sizes."""
    ratios = [case.size_hw[1] / case.size_hw[0] for case in cases if case.split == "train" and len(case.size_hw) == 2]
    return {"aspect_ratios": [round(min(ratios), 4), round(max(ratios), 4)]} if ratios else {}


@dataclass
class ShapeWatch:
    """Counts images that are narrower or wider than all training images by more than a quarter.

    Attributes:
        known: Smallest and largest width / height of the training images; None where nothing is stretched, or a run
            does not know them.
        seen: Number of images.
        deformed: Number of those of another shape.
        worst: Factor by which the one farthest away is narrower or wider, and its width / height.
    """

    known: tuple[float, float] | None
    seen: int = 0
    deformed: int = 0
    worst: tuple[float, float] = (1.0, 1.0)

    @classmethod
    def of_run(cls, facts: Mapping[str, Any], *, resize: str) -> ShapeWatch:
        """From the content of `run.json`."""
        known = facts["data"].get("aspect_ratios") if resize == "stretch" else None
        return cls(None if known is None else (float(known[0]), float(known[1])))

    def add(self, size_hw: tuple[int, int]) -> None:
        """Count an image."""
        self.seen += 1
        if self.known is None:
            return
        ratio = size_hw[1] / size_hw[0]
        factor = max(self.known[0] / ratio, ratio / self.known[1])
        self.deformed += factor > _TOLERANCE
        self.worst = max(self.worst, (factor, ratio))

    @property
    def warning(self) -> str | None:
        """One line about the deformed images; None if there are none."""
        if self.known is None or not self.deformed:
            return None
        low, high = self.known
        trained = f"{low:.2f}" if low == high else f"{low:.2f} to {high:.2f}"
        verb = "is" if self.deformed == 1 else "are"
        return (
            f"{self.deformed} of {pluralize(self.seen, 'image')} {verb} of another shape than all training images: "
            f"width/height {self.worst[1]:.2f}, trained on {trained}; data.resize=stretch deforms them and their masks "
            "may be wrong: look at them, or train with --set data.resize=longer"
        )
