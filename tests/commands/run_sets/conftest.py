"""What the tests of sets share: trainings that only write what a run writes, and `train` over them."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from guidino_cli.commands.run_sets import run
from guidino_cli.commands.runs.result import RunResult, write_result
from guidino_cli.config import dump_config, load_preset

Maker = Callable[..., Path]


class Trainings:
    """In place of child processes: writes what a run writes, and remembers the words."""

    def __init__(self, scores: Sequence[float], codes: Sequence[int] = ()) -> None:
        self.scores, self.codes, self.calls = list(scores), list(codes), []

    def __call__(self, words: Sequence[str]) -> int:
        self.calls.append(list(words))
        code = self.codes.pop(0) if self.codes else 0
        folder = Path(words[words.index("-o") + 1])
        if "--resume" not in words:
            folder.mkdir(parents=True, exist_ok=True)
            overrides = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
            (folder / "config.yaml").write_text(dump_config(load_preset("demo", overrides)))
            (folder / "last").mkdir(exist_ok=True)
            (folder / "last" / "state").write_text("")
        if code == 0:
            write_result(folder, RunResult(self.scores.pop(0), 3, 5, 60.0))
        return code

    @property
    def values(self) -> list[str]:
        """Which seeds or folds were begun: `["seed=0", "seed=1"]`."""
        return [words[words.index("--set") + 1] for words in self.calls if "--set" in words]


@pytest.fixture
def train(tmp_path: Path, make_data: Maker):
    """`running.run` of `train` with the demo preset, into `out`."""
    data = make_data(fold_count=3, train=6, val=3)

    def call(caller: Trainings, **options: object) -> None:
        words = {"seeds": None, "folds": None, "preset": "demo", "data": data, "out": tmp_path / "out"}
        words |= {"overrides": [], "seed": None, "resume": False, "overwrite": False, "dry_run": False}
        run.run("train", **(words | options), caller=caller)

    return call


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Of the set."""
    return tmp_path / "out"


@pytest.fixture
def trainings() -> type[Trainings]:
    """Makes what stands in place of child processes: `trainings([0.6, 0.7])`."""
    return Trainings
