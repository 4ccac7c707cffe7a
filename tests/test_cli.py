"""The command line: quick imports, and one line and one exit code per kind of error."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from guidino_cli import cli, errors

HEAVY = ("torch", "numpy", "transformers", "accelerate", "peft", "matplotlib", "scipy")


def _loaded_after(code: str) -> set[str]:
    """Which heavy packages a fresh interpreter has loaded once the code has run."""
    report = f"import sys\n{code}\nprint('LOADED', *[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split()[1:])


def test_importing_the_command_line_loads_nothing_heavy() -> None:
    assert _loaded_after("import guidino_cli.cli") == set()


@pytest.mark.parametrize("argv", [["--help"], ["train", "--help"], ["--version"], ["models"], ["presets"]])
def test_help_and_lists_load_nothing_heavy(argv: list[str]) -> None:
    code = f"""
sys.argv = ["guidino", *{argv}]
from guidino_cli.cli import main
try:
    main()
except SystemExit as stop:
    assert not stop.code
"""
    assert _loaded_after(code) == set()


@pytest.mark.parametrize("command", ["prepare", "evaluate"])
def test_commands_without_a_network_load_no_network_library(command: str) -> None:
    assert not _loaded_after(f"import guidino_cli.commands.{command}") & {"torch", "transformers", "accelerate", "peft"}


def test_an_unknown_preset_is_refused_before_torch_is_loaded() -> None:
    code = """
from guidino_cli.config import load_preset
from guidino_cli.errors import ConfigError
try:
    load_preset("unte")
except ConfigError:
    pass
"""
    assert not _loaded_after(code) & {"torch", "transformers"}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigError, 2),
        (errors.DataError, 3),
        (errors.WeightsError, 4),
        (errors.DependencyError, 5),
        (errors.PartialError, 6),
        (errors.ResourceError, 7),
        (errors.GateError, 8),
    ],
)
def test_an_error_of_the_user_is_one_line_and_its_exit_code(
    error: type[errors.UserError], code: int, guidino, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = _with_failing_app(guidino, monkeypatch, error("what came, what to do"))
    assert (outcome.code, outcome.stdout) == (code, "")
    assert outcome.stderr == "guidino: what came, what to do\n"
    assert code in errors.EXIT_CODES


def test_a_bug_is_named_as_one_with_how_to_report_it(guidino, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = _with_failing_app(guidino, monkeypatch, RuntimeError("boom"))
    assert outcome.code == 1
    assert outcome.stderr.startswith("guidino: RuntimeError: boom (a bug")
    assert "GUIDINO_DEBUG=1" in outcome.stderr


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"),
        RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        OSError(errno.ENOSPC, "No space left on device"),
    ],
)
def test_memory_and_disk_space_that_run_out_anywhere_exit_with_7(
    error: Exception, guidino, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = _with_failing_app(guidino, monkeypatch, error)
    assert outcome.code == 7
    assert len(outcome.stderr.splitlines()) == 1
    assert "a bug" not in outcome.stderr


def test_output_that_nobody_reads_ends_with_141_and_no_message() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "guidino_cli", "presets"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("words", [["presets", "own-unet"], ["--help"]])
def test_output_to_a_full_disk_exits_with_7(words: list[str]) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "guidino_cli", *words]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 7
    assert done.stderr == "guidino: cannot be written (No space left on device); free some space\n"


@pytest.mark.parametrize("streams", ["2>/dev/full", ">/dev/full 2>&1", ">&- 2>&-", "2>&1 | true"])
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_the_exit_code_of_an_error_that_nobody_can_read_is_that_of_the_error(streams: str, tmp_path: Path) -> None:
    command = f"({sys.executable} -m guidino_cli presets nope; echo $? > {tmp_path / 'code'}) {streams}"
    subprocess.run(["bash", "-c", command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    # A pipeline ends with its last command, which does not wait for the first.
    while not (tmp_path / "code").exists() or not (tmp_path / "code").read_text().strip():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert (tmp_path / "code").read_text() == "2\n"


def test_debugging_shows_the_traceback(guidino, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUIDINO_DEBUG", "1")
    with pytest.raises(errors.DataError, match="boom"):
        _with_failing_app(guidino, monkeypatch, errors.DataError("boom"))


def test_an_interruption_ends_with_130(guidino, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guidino_cli.commands.train.run", _raise(KeyboardInterrupt()))
    assert guidino("train", "--preset", "demo").code == 130


def test_a_usage_error_ends_with_2(guidino) -> None:
    assert guidino("train", "--no-such-option").code == 2
    assert guidino("no-such-command").code == 2


@pytest.mark.parametrize("argv", [[], ["weights"]])
def test_the_list_of_commands_is_not_truncated(argv: list[str], guidino, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = guidino(*argv, "--help").stdout
    assert "..." not in text.partition("Commands:")[2]
    assert max(map(len, text.splitlines())) <= 80


def test_help_lists_the_exit_codes(guidino) -> None:
    outcome = guidino("--help")
    assert outcome.code == 0
    assert all(meaning in " ".join(outcome.stdout.split()) for meaning in errors.EXIT_CODES.values())


def test_every_command_has_a_verb_first_and_an_example_last(guidino) -> None:
    for command in cli.app.registered_commands:
        lines = [line.strip() for line in (command.callback.__doc__ or "").strip().splitlines()]
        assert lines[0].endswith("."), command.callback.__name__
        assert lines[-1].startswith("Example: guidino "), command.callback.__name__


def test_a_message_survives_an_ascii_locale() -> None:
    environment = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    words = [sys.executable, "-m", "guidino_cli", "train", "--preset", "größe"]
    done = subprocess.run(words, capture_output=True, env=environment)
    assert done.returncode == 2
    assert done.stderr.isascii()
    assert done.stderr.startswith(b"guidino: unknown preset 'gr")


def _with_failing_app(guidino, monkeypatch: pytest.MonkeyPatch, error: Exception):
    monkeypatch.setattr("guidino_cli.commands.train.run", _raise(error))
    return guidino("train", "--preset", "demo")


def _raise(error: BaseException):
    def run(*_: object) -> None:
        raise error

    return run
