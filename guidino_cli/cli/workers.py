"""Worker processes that torchrun, accelerate or `--devices` start, one per device."""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from guidino_cli.options.argv import OptionValue, to_argv


def is_worker_process() -> bool:
    """Whether torchrun or accelerate started this process, which then has a rank."""
    return "LOCAL_RANK" in os.environ


def describe_rank() -> str:
    """ "rank 1 of 2 (from 0): " in one of several processes, else ""."""
    count = os.environ.get("WORLD_SIZE", "1")
    return f"rank {os.environ.get('RANK', '0')} of {count} (from 0): " if count != "1" else ""


def launch_workers(
    command: Sequence[str],
    options: Mapping[str, OptionValue],
    *,
    devices: int | None,
    device: str | None,
    dry_run: bool,
) -> bool:
    """Run a command in several processes, one per device, if requested; not in a worker process.

    Args:
        command: Name and positional arguments of the command.
        options: Options by name, as for `to_argv`.
        devices: Number of processes.
        device: Kind of device.
        dry_run: Check in this process instead.

    Returns:
        Whether the command was run.
    """
    if devices is None or devices <= 1 or is_worker_process() or dry_run:
        return False
    from guidino_cli.commands.runs.launcher import launch

    launch([*command, *to_argv({**options, "device": device})], processes=devices, device=device)
    return True


def exit_immediately(code: int) -> NoReturn:
    """Exit without the interpreter's shutdown, which communication threads may abort and so hide the exit code."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
