"""Child processes: signals reach them, and their errors are reported once with their exit code."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from guidino_cli.commands.runs import launcher
from guidino_cli.commands.runs.launcher import launch
from guidino_cli.errors import ConfigError, StoppedError
from guidino_cli.options.argv import to_argv
from guidino_cli.options.training import TrainOptions


class _Process:
    """A child during which this process gets a signal."""

    def __init__(self, number: signal.Signals) -> None:
        self.number, self.received = number, []

    def send_signal(self, number: int) -> None:
        self.received.append(number)

    def wait(self) -> int:
        os.kill(os.getpid(), self.number)
        return 128 + self.number


@pytest.mark.parametrize(("number", "error"), [(signal.SIGTERM, StoppedError), (signal.SIGINT, KeyboardInterrupt)])
def test_a_signal_is_forwarded_and_ends_the_caller_with_its_error(
    number: signal.Signals, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    process, before = _Process(number), signal.getsignal(number)
    monkeypatch.setattr(launcher.subprocess, "Popen", lambda *_, **__: process)
    with pytest.raises(error) as caught:
        launcher.run_in_subprocess(["train"])
    assert process.received == [number]
    assert getattr(caught.value, "exit_code", 130) == 128 + number
    assert signal.getsignal(number) is before


Maker = Callable[..., Path]

# Normalised image by image: batch normalisation would see other statistics in a batch that is cut in two.
PRESET = """
model: {segmenter: {name: nnunet, options: {widths: [4, 8, 8], blocks: [1, 1, 1]}}}
data: {image_size: 32, augment: light}
train: {epochs: 2, batch_size: 4, lr: 1e-2}
predict: {overlap: 0, mirror: false}
"""


@pytest.fixture
def train(tmp_path: Path, make_data: Maker):
    """`guidino train` in a process of its own, into a folder of this name."""
    data = make_data(train=8, val=2)
    (tmp_path / "tiny.yaml").write_text(PRESET)

    def call(name: str, *more: str) -> subprocess.CompletedProcess[str]:
        begin = [sys.executable, "-m", "guidino_cli", "train", "-p", "tiny.yaml", "-d", str(data), "-o", name]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        line = [*begin, "--device", "cpu", *more]
        return subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)

    return call


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_two_processes_are_one_with_twice_the_batch(train, guidino, read_history, tmp_path: Path) -> None:
    """Losses, Dice over both halves of a batch among them, and so the weights of both epochs."""
    outcome = train("two", "--devices", "2", "--set", "train.batch_size=2")
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout.count("best val Dice") == 1
    words = ("-p", tmp_path / "tiny.yaml", "-d", tmp_path / "data", "-o", tmp_path / "one", "--device", "cpu")
    assert guidino("train", *words).code == 0
    two, one = read_history(tmp_path / "two"), read_history(tmp_path / "one")
    assert len(two) == len(one) == 2
    for ours, theirs in zip(two, one, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5)


@pytest.mark.slow
def test_an_error_in_every_process_is_printed_once_and_sets_the_exit_code(train) -> None:
    outcome = train("run", "--devices", "2", "--set", "data.image_size=33")
    assert outcome.returncode == 2
    assert outcome.stderr.count("data.image_size is 33") == 1
    assert "Traceback" not in outcome.stderr


@pytest.mark.slow
def test_a_validation_image_that_one_process_cannot_read_ends_all_with_every_step_saved(train, tmp_path: Path) -> None:
    """The other one waits for its scores, and would for half an hour."""
    (tmp_path / "data" / "images" / "case9.png").write_bytes(b"no image")
    outcome = train("run", "--devices", "2")
    assert outcome.returncode == 3
    assert "case9.png: cannot be read" in outcome.stderr
    assert "step 1 of 1 in epoch 1 is saved; resume with" in outcome.stderr
    assert "stopped by" not in outcome.stderr


def test_more_processes_than_cards_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(ConfigError, match="there are 1 CUDA devices; for processes on the CPU add --device cpu"):
        launch(["train"], processes=2, device=None)


def test_one_card_for_several_processes_is_refused() -> None:
    with pytest.raises(ConfigError, match="CUDA_VISIBLE_DEVICES"):
        launch(["train"], processes=2, device="cuda:1")


def test_a_time_limit_that_is_no_number_is_refused_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before there are processes, each of which would print it."""
    monkeypatch.setenv("GUIDINO_RANK_TIMEOUT_MINUTES", "soon")
    with pytest.raises(ConfigError, match="GUIDINO_RANK_TIMEOUT_MINUTES is 'soon', expected a number of minutes"):
        launch(["train"], processes=2, device="cpu")


def test_sigterm_ends_several_processes_as_it_ends_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.distributed.elastic.multiprocessing.api import SignalException

    def elastic_launch(*_: object) -> Callable[..., None]:
        def start(*_: str) -> None:
            raise SignalException("told to end", signal.SIGTERM)

        return start

    for name in ("OMP_NUM_THREADS", "TORCH_ELASTIC_SHUTDOWN_TIMEOUT"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setattr("torch.distributed.launcher.api.elastic_launch", elastic_launch)
    with pytest.raises(StoppedError, match="resume with --resume") as caught:
        launch(["train"], processes=2, device="cpu")
    assert caught.value.exit_code == 143


def test_workers_get_the_options_but_devices(guidino, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen = []
    monkeypatch.setattr(
        "guidino_cli.commands.runs.launcher.launch", lambda line, **options: seen.append((line, options))
    )
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    guidino("train", "-p", "demo", "-o", tmp_path, "--seed", 3, "--set", "train.lr=1e-2", "--devices", 2, "--offline")
    line = ["train", "--preset", "demo", "--out", str(tmp_path), "--set", "train.lr=1e-2", "--seed", "3", "--offline"]
    assert seen == [(line, {"processes": 2, "device": None})]


def test_options_become_arguments() -> None:
    given = {"seed": 0, "resume": True, "offline": False, "set": ["a=1", "b=2"], "out": None}
    assert to_argv(given) == ["--seed", "0", "--resume", "--set", "a=1", "--set", "b=2"]


# --- Restarts by torchrun


@pytest.mark.parametrize(("has_state", "wanted"), [(True, (True, False)), (False, (False, True))])
def test_a_restarted_process_resumes_from_its_state_or_starts_again(
    has_state: bool, wanted: tuple[bool, bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from guidino_cli.commands.runs.starting import resolve_restart
    from guidino_cli.engine.checkpointing import STATE_FILE

    if has_state:
        (tmp_path / "last").mkdir()
        (tmp_path / "last" / STATE_FILE).write_text("")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    options = resolve_restart(TrainOptions(out=tmp_path))
    assert (options.resume, options.overwrite) == wanted


def test_the_first_start_keeps_its_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from guidino_cli.commands.runs.starting import resolve_restart

    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    options = TrainOptions(out=tmp_path)
    assert resolve_restart(options) == options
