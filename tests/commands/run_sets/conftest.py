"""Fixtures of run sets: a fake runner that writes the files of a run, and `train` with it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from guidino_cli.commands.run_sets import run
from guidino_cli.commands.runs.result import RunResult, write_result
from guidino_cli.config import dump_config, load_preset
from guidino_cli.options.training import TrainOptions

Maker = Callable[..., Path]


class FakeRunner:
    """Writes the files of a run instead of starting a process, and records the command lines."""

    def __init__(self, scores: Sequence[float], codes: Sequence[int] = ()) -> None:
        self.scores, self.codes, self.calls = list(scores), list(codes), []

    def __call__(self, argv: Sequence[str]) -> int:
        self.calls.append(list(argv))
        code = self.codes.pop(0) if self.codes else 0
        folder = Path(argv[argv.index("-o") + 1])
        if "--resume" not in argv:
            folder.mkdir(parents=True, exist_ok=True)
            overrides = [argv[i + 1] for i, word in enumerate(argv) if word == "--set"]
            (folder / "config.yaml").write_text(dump_config(load_preset("demo", overrides)))
            (folder / "last").mkdir(exist_ok=True)
            (folder / "last" / "state").write_text("")
        if code == 0:
            write_result(folder, RunResult(self.scores.pop(0), 3, 5, 60.0))
        return code

    @property
    def values(self) -> list[str]:
        """Seeds or folds of the started runs: `["seed=0", "seed=1"]`."""
        return [argv[argv.index("--set") + 1] for argv in self.calls if "--set" in argv]


@pytest.fixture
def train(tmp_path: Path, make_data: Maker):
    """Train a set of runs of the demo preset into `out`, with a fake runner."""
    data = make_data(fold_count=3, train=6, val=3)

    def call(runner: FakeRunner, **options: Any) -> None:
        defaults = {"preset": "demo", "data": data, "out": tmp_path / "out"}
        run.run("train", TrainOptions(**(defaults | options)), runner=runner)

    return call


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Folder of the set."""
    return tmp_path / "out"


@pytest.fixture
def fake_runner() -> type[FakeRunner]:
    """Class of a runner with the scores of its runs: `fake_runner([0.6, 0.7])`."""
    return FakeRunner
