"""Is this process one of several that torchrun, accelerate or `--devices` started, and how it starts them."""

import os
import sys
from collections.abc import Mapping, Sequence

from guidino_cli.options.argv import OptionValue, to_argv


def is_worker_process() -> bool:
    """Whether it is one of several: each of those is given its rank."""
    return "LOCAL_RANK" in os.environ


def launch_workers(
    command: Sequence[str],
    options: Mapping[str, OptionValue],
    *,
    devices: int | None,
    device: str | None,
    dry_run: bool,
) -> bool:
    """Do a command in several processes, a device each, if that is asked for and not done yet; whether it was.

    Args:
        command: Its name, and what is positional.
        options: As `words` takes them.
        devices: How many processes.
        device: Which kind of device.
        dry_run: One process is enough to check.
    """
    if devices is None or devices <= 1 or is_worker_process() or dry_run:
        return False
    from guidino_cli.commands.runs.launcher import launch

    launch([*command, *to_argv({**options, "device": device})], processes=devices, device=device)
    return True


def exit_immediately(code: int) -> None:
    """End without the interpreter's own end: threads of a connection to others may abort that, and hide the code."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
