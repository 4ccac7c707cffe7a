"""What the tests of the commands share: masks as files, the rows of a report, runs in processes that can be killed."""

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
    """Exit code of a command line run in this process; what it prints is left to `capsys`."""
    from guidino_cli.cli import main

    def call(*words: object) -> int:
        monkeypatch.setattr(sys, "argv", ["guidino", *map(str, words)])
        try:
            main()
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0

    return call


@pytest.fixture(scope="module")
def no_pictures() -> Iterator[None]:
    """Training leaves out its pictures, which take longer than it does with tiny networks."""
    with pytest.MonkeyPatch.context() as patch:
        _leave_out_pictures(patch)
        yield


@pytest.fixture
def pictures_where_marked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training draws its pictures in tests that are marked with `pictures`, and leaves them out in others."""
    if "pictures" not in request.keywords:
        _leave_out_pictures(monkeypatch)


def _leave_out_pictures(patch: pytest.MonkeyPatch) -> None:
    for name in ("draw_curve", "draw_validation"):
        patch.setattr(f"guidino_cli.commands.train.{name}", lambda *_, **__: None)
    patch.setattr("guidino_cli.commands.train.curve_keeper", lambda *_: None)


@pytest.fixture(scope="session")
def preset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny guided network that is trained for one epoch, in a file for `--preset`."""
    path = tmp_path_factory.mktemp("preset") / "tiny.yaml"
    path.write_text(_PRESET)
    return path


@pytest.fixture
def coarse_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are drawn whole, but in few pixels, which takes a fraction of the time.

    A test that looks at the pixels of a picture is marked with `pictures` and gets all of them.
    """
    if "pictures" in request.keywords:
        return
    from matplotlib.figure import Figure

    original = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, place, **others: original(self, place, **others | {"dpi": 20}))


@pytest.fixture
def save_mask() -> Callable[[Path, np.ndarray], Path]:
    """Write an 8-bit mask, with the folder it lies in."""

    def save(path: Path, mask: np.ndarray) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask.astype(np.uint8)).save(path)
        return path

    return save


@pytest.fixture
def mask_folders(tmp_path: Path, save_mask: Callable[[Path, np.ndarray], Path]) -> Callable[..., Path]:
    """Folders of masks below tmp_path: `mask_folders(truth={"a": mask}, predictions={"a": mask})`."""

    def make(**sides: dict[str, np.ndarray]) -> Path:
        for side, masks in sides.items():
            for name, mask in masks.items():
                save_mask(tmp_path / side / f"{name}.png", mask)
        return tmp_path

    return make


@pytest.fixture
def read_rows() -> Callable[[Path], list[dict[str, str]]]:
    """The rows of a CSV."""

    def read(path: Path) -> list[dict[str, str]]:
        with path.open(encoding="utf-8") as file:
            return list(csv.DictReader(file))

    return read


# Importing torch takes longer than tiny runs: one process does it, and every run is a child of it. It has computed
# nothing before, so a child begins as a fresh `guidino` does. Pictures are left out. Several processes of one run are
# told of each other as by torchrun, and meet at a port that nobody else can have taken in between.
_MOTHER = """
import json, os, signal, sys
import torch._dynamo  # Else every run imports it for its optimiser.
from torch.distributed import TCPStore
from guidino_cli.cli import main
from guidino_cli.commands import pretrain, train

train.draw_curve = train.draw_validation = pretrain.draw_curve = lambda *_, **__: None
train.curve_keeper = pretrain.curve_keeper = lambda *_: None

def child(work, *words):
    process = os.fork()
    if process == 0:
        work(*words)
        sys.exit(0)
    return process

def run(words, told):
    os.dup2(2, 1)
    os.environ |= {name: str(value) for name, value in told.items()}
    sys.argv = ["guidino", *words]
    main()

def meet(write):
    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    os.write(write, str(store.port).encode())
    signal.pause()

def several(words, count):
    # Where they meet is a process of its own: a run must not inherit its threads.
    read, write = os.pipe()
    place = child(meet, write)
    told = {"MASTER_ADDR": "localhost", "MASTER_PORT": int(os.read(read, 9)), "TORCHELASTIC_USE_AGENT_STORE": True}
    told |= {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    return place, [child(run, words, {**told, "RANK": rank, "LOCAL_RANK": rank}) for rank in range(count)]

for line in sys.stdin:
    words, count = json.loads(line)
    place, children = several(words, count) if count > 1 else (None, [child(run, words, {})])
    print(json.dumps(children), flush=True)
    codes = [os.waitstatus_to_exitcode(os.waitpid(one, 0)[1]) for one in children]
    if place is not None:
        os.kill(place, signal.SIGKILL)
        os.waitpid(place, 0)
    print(json.dumps(codes), flush=True)
"""


class Mother:
    """Starts runs on the CPU, each in a process of its own, or in several.

    Attributes:
        log: What all of them say.
    """

    def __init__(self, log: Path) -> None:
        self.log = log
        self._process = subprocess.Popen(
            [sys.executable, "-c", _MOTHER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.open("wb"),
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self._run: list[int] = []

    def start(self, *words: object, processes: int = 1) -> None:
        """Begin `guidino WORDS`."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([[*map(str, words), "--device", "cpu"], processes]) + "\n")
        self._process.stdin.flush()
        self._run = self._told()

    def end(self, how: signal.Signals) -> None:
        """Send a signal to all processes of the run."""
        for process in self._run:
            os.kill(process, how)

    def wait(self, *codes: int) -> None:
        """Let the run end, with these exit codes of its processes; -9 after SIGKILL."""
        found = self._told()
        self._run = []
        assert found == list(codes), self.log.read_text()

    def close(self) -> None:
        """End what still runs."""
        self.end(signal.SIGKILL)
        self._process.communicate()

    def _told(self) -> list[int]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, self.log.read_text()
        numbers: list[int] = json.loads(line)
        return numbers


@pytest.fixture(scope="session")
def mother(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mother]:
    """One process that has torch, and starts runs."""
    if not hasattr(os, "fork"):
        pytest.skip("the mother process needs fork")
    mother = Mother(tmp_path_factory.mktemp("mother") / "stderr.txt")
    yield mother
    mother.close()


@pytest.fixture(scope="session")
def watch() -> Callable[..., None]:
    """`watch(run, saves=2)` returns when a run has saved its state so many times from now on."""

    def wait(run: Path, *, saves: int) -> None:
        state, end = run / "last" / "state.pt", time.monotonic() + 120
        seen = {state.stat().st_mtime_ns} if state.is_file() else set[int]()
        wanted = len(seen) + saves
        while len(seen) < wanted:
            assert time.monotonic() < end, "the run does not get on"
            with contextlib.suppress(FileNotFoundError):
                seen.add(state.stat().st_mtime_ns)
            time.sleep(0.001)

    return wait


@pytest.fixture(scope="session")
def read_history() -> Callable[[Path], list[dict[str, object]]]:
    """The rows of a run's history, but for what a clock has said."""

    def read(run: Path) -> list[dict[str, object]]:
        rows = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
        return [{key: value for key, value in row.items() if "second" not in key} for row in rows]

    return read


@pytest.fixture(scope="session")
def ten_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small images of noise, to pretrain on."""
    folder = tmp_path_factory.mktemp("ten") / "images"
    folder.mkdir()
    for number in range(10):
        pixels = np.random.default_rng(number).integers(0, 256, (36, 40, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder
