"""Scoring in several processes: equal results, and survival of a process that dies."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from guidino_cli.data.masks.rule import MaskRule
from guidino_cli.evaluation.cases import Pair, Truth
from guidino_cli.evaluation.masks import Mask, MaskReader
from guidino_cli.evaluation.types import Policy, ScoringConfig, Target
from guidino_cli.evaluation.workers import choose_worker_count, score_cases

RULE = MaskRule("nonzero", "test", 2)


@dataclass(frozen=True)
class FatalReader(MaskReader):
    """A reader that exits its process at one file and kills it at the next, as a lack of memory does."""

    def read(self, path: Path) -> Mask:
        if path.name == "5.png":
            os._exit(9)
        if path.name == "6.png":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(path)


def config(reader: MaskReader) -> ScoringConfig:
    targets = (Target("foreground", (1,)),)
    return ScoringConfig(targets, ("dice", "hd95"), Policy(), truth=MaskReader(RULE), predictions=reader)


@pytest.fixture
def pairs(tmp_path: Path) -> list[Pair]:
    found = []
    for index in range(20):
        mask = np.zeros((10, 10), dtype=np.uint8)
        mask[2:6, 2 : 4 + index % 3] = 1
        truth, prediction = tmp_path / "t" / f"{index}.png", tmp_path / "p" / f"{index}.png"
        for path, content in ((truth, mask), (prediction, np.roll(mask, index % 2, axis=0))):
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(content).save(path)
        found.append(Pair(Truth(str(index), truth, (str(index),)), prediction))
    return found


def test_two_processes_give_the_same_results_in_the_same_order(pairs: list[Pair]) -> None:
    one, two = (list(score_cases(pairs, config(MaskReader(RULE)), workers=count)) for count in (1, 2))
    assert [case.scores for case in one] == [case.scores for case in two]
    assert [case.pair.truth.case for case in two] == [str(index) for index in range(20)]


def test_if_a_process_dies_only_its_case_fails(pairs: list[Pair]) -> None:
    """As the kernel does when memory runs out: no warning, no exit handler."""
    cases = list(score_cases(pairs, config(FatalReader(RULE)), workers=2))
    assert [case.pair.truth.case for case in cases] == [str(index) for index in range(20)]
    failed = [case for case in cases if case.scores[0].status == "failed"]
    assert [case.pair.truth.case for case in failed] == ["5", "6"]
    assert all("died" in case.note for case in failed)
    assert failed[0].scores[0].values["dice"] == 0.0


def test_a_file_deleted_during_scoring_is_a_failed_case(pairs: list[Pair]) -> None:
    stream = score_cases(pairs, config(MaskReader(RULE)), workers=1)
    first = next(stream)
    assert pairs[7].prediction is not None
    pairs[7].prediction.unlink()
    cases = [first, *stream]
    assert [case.pair.truth.case for case in cases if case.scores[0].status == "failed"] == ["7"]


@pytest.mark.parametrize(
    ("asked", "pairs", "volumes", "expected"), [(None, 50, False, 1), (3, 50, False, 3), (8, 2, False, 2)]
)
def test_small_folders_stay_in_one_process(asked: int | None, pairs: int, volumes: bool, expected: int) -> None:
    assert choose_worker_count(asked, pairs, volumes=volumes) == expected
