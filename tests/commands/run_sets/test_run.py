"""Training a set of runs: which are started, skipped or failed, and the table of scores."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from guidino_cli.commands.run_sets import run
from guidino_cli.config import load_preset
from guidino_cli.errors import PartialError
from guidino_cli.options.training import LoraTuneOptions

Maker = Callable[..., Path]


def test_every_seed_gets_a_run(fake_runner, train, out: Path) -> None:
    runner = fake_runner([0.5, 0.5, 0.5])
    train(runner, seeds="3")
    assert runner.values == ["seed=0", "seed=1", "seed=2"]
    assert [Path(argv[argv.index("-o") + 1]).name for argv in runner.calls] == ["seed-0", "seed-1", "seed-2"]


def test_every_fold_gets_a_run_with_the_requested_seed(fake_runner, train) -> None:
    runner = fake_runner([0.5, 0.5, 0.5])
    train(runner, folds="3", seed=7)
    assert runner.values == ["data.fold=0", "data.fold=1", "data.fold=2"]
    settings = Path(runner.calls[0][runner.calls[0].index("--preset") + 1])
    assert load_preset(str(settings)).seed == 7


def test_a_dry_run_prints_the_command_lines_and_writes_nothing(
    fake_runner, train, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(fake_runner([]), seeds="2", dry_run=True)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["guidino", "train"]] * 2
    assert not out.exists()


def test_a_failed_run_does_not_stop_the_others(
    fake_runner, train, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(PartialError, match=r"1 of 3 runs failed: seed-1 \(killed by signal 9, as the system does"):
        train(fake_runner([0.6, 0.8], codes=[0, -9, 0]), seeds="3")
    assert "mean val Dice 0.7000 +- 0.1414 (sample standard deviation) of 2 of 3 runs" in capsys.readouterr().out
    content = json.loads((out / "runs.json").read_text())
    assert [row["exit_code"] for row in content["runs"]] == [0, -9, 0]


def test_a_failure_ends_with_6(
    fake_runner, guidino, make_data: Maker, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # `call` is the default of an argument: nothing of the command line is left out but the processes.
    monkeypatch.setitem(run.run.__kwdefaults__, "runner", fake_runner([0.6], codes=[0, 7]))
    outcome = guidino("train", "-p", "demo", "-d", make_data(), "-o", out, "--seeds", "2")
    assert outcome.code == 6
    assert "seed-1 (exit code 7: out of memory or disk space)" in outcome.stderr


def test_resuming_skips_finished_runs_and_resumes_those_with_a_state(fake_runner, train, out: Path) -> None:
    with pytest.raises(PartialError):
        train(fake_runner([0.6, 0.8], codes=[0, 7, 0]), seeds="3")
    again = fake_runner([0.7])
    train(again, seeds=None, preset=None, data=None, resume=True)
    assert [argv[:4] for argv in again.calls] == [["train", "--resume", "-o", str(out / "seed-1")]]
    assert json.loads((out / "runs.json").read_text())["val_dice"]["mean"] == pytest.approx(0.7)


def test_a_run_without_a_state_starts_again(fake_runner, train, out: Path) -> None:
    def fails_early(argv: Sequence[str]) -> int:
        Path(argv[argv.index("-o") + 1]).mkdir(parents=True)
        return 3

    with pytest.raises(PartialError):
        train(fails_early, seeds="1")
    again = fake_runner([0.7])
    train(again, preset=None, data=None, resume=True)
    assert "--resume" not in again.calls[0]
    assert "--overwrite" in again.calls[0]


def test_an_interruption_keeps_results_and_prints_how_to_resume(
    fake_runner, train, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finishing = fake_runner([0.6])

    def interrupted(argv: Sequence[str]) -> int:
        if finishing.calls:
            raise KeyboardInterrupt
        return finishing(argv)

    with pytest.raises(KeyboardInterrupt):
        train(interrupted, seeds="2")
    assert f"guidino train --resume -o {out}" in capsys.readouterr().err
    assert [row["exit_code"] for row in json.loads((out / "runs.json").read_text())["runs"]] == [0, None]


def test_an_unfinished_state_file_is_not_resumed_from(fake_runner, train, out: Path) -> None:
    def killed(argv: Sequence[str]) -> int:
        (out / "seed-0" / "last").mkdir(parents=True)
        (out / "seed-0" / "last" / ".state.7.tmp.pt").write_text("half")
        return -9

    with pytest.raises(PartialError):
        train(killed, seeds="1")
    again = fake_runner([0.7])
    train(again, preset=None, data=None, resume=True)
    assert "--resume" not in again.calls[0]


def test_overwriting_keeps_no_result_of_the_old_set(fake_runner, train, out: Path) -> None:
    train(fake_runner([0.6, 0.7]), seeds="2")
    again = fake_runner([0.1], codes=[0, 4])
    with pytest.raises(PartialError):
        train(again, seeds="2", overwrite=True)
    assert all("--resume" not in argv for argv in again.calls)
    assert json.loads((out / "runs.json").read_text())["val_dice"]["max"] == 0.1


def test_lora_tune_starts_each_run_from_the_run_of_the_same_seed(fake_runner, train, out: Path, tmp_path: Path) -> None:
    train(fake_runner([0.6, 0.7]), seeds="2")
    runner = fake_runner([0.8, 0.9])
    options = LoraTuneOptions(seeds="2", out=tmp_path / "tuned")
    run.run("lora-tune", options, base_run=out, runner=runner)
    assert [argv[:2] for argv in runner.calls] == [["lora-tune", str(out / f"seed-{i}")] for i in range(2)]


def test_starting_a_set_imports_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys; import guidino_cli.commands.run_sets.run; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_the_table_has_a_row_per_run_and_a_caveat(
    fake_runner, train, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(fake_runner([0.6, 0.7, 0.8]), folds="3")
    output = capsys.readouterr().out
    assert [line.split() for line in output.splitlines()[1:4]] == [
        [f"fold-{i}", score, "3", "5", "1.0"] for i, score in enumerate(("0.6000", "0.7000", "0.8000"))
    ]
    assert "mean val Dice 0.7000 +- 0.1000 (sample standard deviation) of 3 runs" in output
    assert "the fold that selected it, so they are optimistic" in output
    assert all(len(line) <= 80 for line in output.splitlines() if str(out) not in line)
    with (out / "runs.csv").open() as file:
        assert [row["val_dice"] for row in csv.DictReader(file)] == ["0.6", "0.7", "0.8"]
