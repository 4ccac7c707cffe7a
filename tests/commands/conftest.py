"""Fixtures of the command tests: mask files, report rows, and runs in processes that can be killed."""

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

_PRESET = """
description: a tiny guided network
model:
  segmenter: {name: unet, options: {width: 4}}
  backbone: {name: random, options: {hidden_size: 32, depth: 1, heads: 2}}
  guide: {at: bottleneck, options: {prototypes: 4, aggregate: softmax}}
data: {image_size: 32}
train: {epochs: 1, batch_size: 2, lr: 1e-2, loss: {dice: 1, cross_entropy: 1, guide: 0.1}}
predict: {overlap: 0, mirror: false}
"""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run a command line in this process and return its exit code; `capsys` captures its output."""
    from guidino_cli.cli import main

    def call(*argv: object) -> int:
        monkeypatch.setattr(sys, "argv", ["guidino", *map(str, argv)])
        try:
            main()
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0

    return call


@pytest.fixture(scope="module")
def no_figures() -> Iterator[None]:
    """Training draws no figures, which would take longer than training a tiny network."""
    with pytest.MonkeyPatch.context() as patch:
        _skip_figures(patch)
        yield


@pytest.fixture
def figures_where_marked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training draws its figures only in tests marked with `figures`."""
    if "figures" not in request.keywords:
        _skip_figures(monkeypatch)


def _skip_figures(patch: pytest.MonkeyPatch) -> None:
    for name in ("draw_curve", "draw_validation_grid"):
        patch.setattr(f"guidino_cli.commands.train.{name}", lambda *_, **__: None)
    patch.setattr("guidino_cli.commands.train.curve_callback", lambda *_: None)


@pytest.fixture(scope="session")
def preset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Preset file of a tiny guided network that trains for one epoch."""
    path = tmp_path_factory.mktemp("preset") / "tiny.yaml"
    path.write_text(_PRESET)
    return path


@pytest.fixture
def coarse_figures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are saved at 20 dpi, which takes a fraction of the time.

    A test that checks the pixels of a figure is marked with `figures` and gets the full resolution.
    """
    if "figures" in request.keywords:
        return
    from matplotlib.figure import Figure

    original = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, place, **others: original(self, place, **others | {"dpi": 20}))


@pytest.fixture
def save_mask() -> Callable[[Path, np.ndarray], Path]:
    """Write an 8-bit mask and create its folder."""

    def save(path: Path, mask: np.ndarray) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask.astype(np.uint8)).save(path)
        return path

    return save


@pytest.fixture
def mask_folders(tmp_path: Path, save_mask: Callable[[Path, np.ndarray], Path]) -> Callable[..., Path]:
    """Write folders of masks below tmp_path: `mask_folders(truth={"a": mask}, predictions={"a": mask})`."""

    def make(**sides: dict[str, np.ndarray]) -> Path:
        for side, masks in sides.items():
            for name, mask in masks.items():
                save_mask(tmp_path / side / f"{name}.png", mask)
        return tmp_path

    return make


@pytest.fixture
def read_rows() -> Callable[[Path], list[dict[str, str]]]:
    """Read the rows of a CSV file."""

    def read(path: Path) -> list[dict[str, str]]:
        with path.open(encoding="utf-8") as file:
            return list(csv.DictReader(file))

    return read


# Importing torch takes longer than a tiny run: one server process does it, and every run is a fork of it. The server
# has computed nothing itself, so a fork starts like a new `guidino`. Figures are left out. The ranks of a distributed
# run get the environment that torchrun would set, and meet at a port that nobody else can have taken in between.
_FORK_SERVER = """
import json, os, signal, sys
import torch._dynamo  # Otherwise every run imports it for its optimizer.
from torch.distributed import TCPStore
from guidino_cli.cli import main
from guidino_cli.commands import pretrain, train

train.draw_curve = train.draw_validation_grid = pretrain.save_pretrain_curve = lambda *_, **__: None
train.curve_callback = pretrain.pretrain_curve_callback = lambda *_: None

def fork(function, *arguments):
    process = os.fork()
    if process == 0:
        function(*arguments)
        sys.exit(0)
    return process

def run(argv, environment):
    os.dup2(2, 1)
    os.environ |= {name: str(value) for name, value in environment.items()}
    sys.argv = ["guidino", *argv]
    main()

def serve_store(write):
    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    os.write(write, str(store.port).encode())
    signal.pause()

def run_distributed(argv, count):
    # The store is served by a process of its own: a run must not inherit its threads.
    read, write = os.pipe()
    store = fork(serve_store, write)
    shared = {"MASTER_ADDR": "localhost", "MASTER_PORT": int(os.read(read, 9)), "TORCHELASTIC_USE_AGENT_STORE": True}
    shared |= {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    return store, [fork(run, argv, {**shared, "RANK": rank, "LOCAL_RANK": rank}) for rank in range(count)]

for line in sys.stdin:
    argv, count = json.loads(line)
    store, children = run_distributed(argv, count) if count > 1 else (None, [fork(run, argv, {})])
    print(json.dumps(children), flush=True)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    if store is not None:
        os.kill(store, signal.SIGKILL)
        os.waitpid(store, 0)
    print(json.dumps(codes), flush=True)
"""


class ForkServer:
    """Forks runs on the CPU from a process that has imported torch.

    Attributes:
        log: File with the standard error of all runs.
    """

    def __init__(self, log: Path) -> None:
        self.log = log
        self._process = subprocess.Popen(
            [sys.executable, "-c", _FORK_SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.open("wb"),
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self._run: list[int] = []

    def start(self, *argv: object, processes: int = 1) -> None:
        """Start `guidino ARGV` in one or more processes."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([[*map(str, argv), "--device", "cpu"], processes]) + "\n")
        self._process.stdin.flush()
        self._run = self._read()

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to all processes of the run."""
        for process in self._run:
            os.kill(process, number)

    def wait(self, *codes: int) -> None:
        """Wait for the run to end, and require these exit codes of its processes; -9 after SIGKILL."""
        found = self._read()
        self._run = []
        assert found == list(codes), self.log.read_text()

    def close(self) -> None:
        """Kill what still runs, and the server."""
        self.send_signal(signal.SIGKILL)
        self._process.communicate()

    def _read(self) -> list[int]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, self.log.read_text()
        numbers: list[int] = json.loads(line)
        return numbers


@pytest.fixture(scope="session")
def fork_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    """Server process that has imported torch and forks runs."""
    if not hasattr(os, "fork"):
        pytest.skip("the fork server needs os.fork")
    server = ForkServer(tmp_path_factory.mktemp("fork_server") / "stderr.txt")
    yield server
    server.close()


@pytest.fixture(scope="session")
def wait_for_saves() -> Callable[..., None]:
    """Wait until a run has saved its state so many times from now on: `wait_for_saves(run, saves=2)`."""

    def wait(run: Path, *, saves: int) -> None:
        state, end = run / "last" / "state.pt", time.monotonic() + 120
        seen = {state.stat().st_mtime_ns} if state.is_file() else set[int]()
        wanted = len(seen) + saves
        while len(seen) < wanted:
            assert time.monotonic() < end, "the run saves no state"
            with contextlib.suppress(FileNotFoundError):
                seen.add(state.stat().st_mtime_ns)
            time.sleep(0.001)

    return wait


@pytest.fixture(scope="session")
def read_history() -> Callable[[Path], list[dict[str, object]]]:
    """Read the rows of a run's history, without timings."""

    def read(run: Path) -> list[dict[str, object]]:
        rows = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
        return [{key: value for key, value in row.items() if "second" not in key} for row in rows]

    return read


@pytest.fixture(scope="session")
def ten_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of ten small noise images for pretraining."""
    folder = tmp_path_factory.mktemp("ten") / "images"
    folder.mkdir()
    for number in range(10):
        pixels = np.random.default_rng(number).integers(0, 256, (36, 40, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder
