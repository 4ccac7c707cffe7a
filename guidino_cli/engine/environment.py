"""Environment recorded in `run.json`: command line, torch settings, and a fingerprint of the data files."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from guidino_cli.errors import DataError
from guidino_cli.files import lines_sha256, relative_posix
from guidino_cli.types import Case


def describe_environment() -> dict[str, Any]:
    """Command line and torch settings for `run.json`; nothing in it identifies the machine."""
    state = PartialState()
    return {
        "command": ["guidino", *sys.argv[1:]],
        "torch": {
            "device": state.device.type,
            "processes": state.num_processes,
            "threads": torch.get_num_threads(),
            "cpu": torch.backends.cpu.get_cpu_capability(),
            "cuda": torch.version.cuda,
            "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
            "cudnn_deterministic": torch.backends.cudnn.deterministic,
        },
    }


def fingerprint_files(cases: Iterable[Case], root: Path) -> str:
    """SHA-256 of the names and sizes of all images and masks: cheap for a million files, the same on every machine.

    Of volumes, the stored arrays count, not their sources, which training does not read.

    Raises:
        DataError: A file is missing.
    """
    paths = (path for case in cases for path in _read_in_training(case) if path is not None)
    return lines_sha256(f"{relative_posix(path, root)} {_size(path)}" for path in paths)


def _read_in_training(case: Case) -> tuple[Path | None, ...]:
    if case.volume is None:
        return case.image, case.mask
    return case.volume.image, case.volume.labels, case.volume.foreground


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); run `guidino prepare` again") from error
