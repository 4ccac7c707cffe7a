"""Fixtures for tests of pairs: folders of empty files and their pairing."""

from collections.abc import Callable
from pathlib import Path

import pytest

from guidino_cli.evaluation.cases import Pairing
from guidino_cli.evaluation.matching import match_predictions
from guidino_cli.evaluation.truths import find_truths


@pytest.fixture
def folder() -> Callable[..., Path]:
    """Make a folder of empty files: `folder(tmp_path / "truth", "a.png")`."""

    def make(place: Path, *names: str) -> Path:
        place.mkdir()
        for name in names:
            (place / name).write_bytes(b"")
        return place

    return make


@pytest.fixture
def matched(tmp_path: Path, folder: Callable[..., Path]) -> Callable[[list[str], list[str]], Pairing]:
    """The pairing of folders with such files: `matched(predictions, truths)`."""

    def find(predictions: list[str], truths: list[str]) -> Pairing:
        truth = find_truths(folder(tmp_path / "truth", *truths), split="test")
        return match_predictions(folder(tmp_path / "predictions", *predictions), truth)

    return find


@pytest.fixture
def paired() -> Callable[[Pairing], dict[str, str | None]]:
    """Name of each case -> name of its prediction."""

    def names(pairing: Pairing) -> dict[str, str | None]:
        return {pair.truth.case: None if pair.prediction is None else pair.prediction.name for pair in pairing.pairs}

    return names
