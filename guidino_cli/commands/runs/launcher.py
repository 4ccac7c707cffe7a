"""Run a guidino command in child processes: one, or several by torchrun with one device each."""

import logging
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from guidino_cli.commands.runs.rank_failures import end_stopped_ranks, explain_failure
from guidino_cli.errors import ConfigError, StoppedError
from guidino_cli.processes import child_environment, usable_cpus

_POSIX = os.name == "posix"


def run_in_subprocess(argv: Sequence[str]) -> int:
    """Run `guidino ARGV` and return its exit code, or minus the signal that ended it.

    Its standard output goes to stderr, since the caller prints results of its own. SIGINT and SIGTERM are forwarded,
    and the child is waited for, because it saves its state.

    Raises:
        KeyboardInterrupt: The child was interrupted, or this process was.
        StoppedError: This process received SIGTERM.
    """
    # A process group of its own: Ctrl-C in a terminal would otherwise reach the child twice.
    process_group: dict[str, Any] = {"process_group": 0} if _POSIX else {}
    command = [sys.executable, "-m", "guidino_cli", *argv]
    process = subprocess.Popen(
        command, env=os.environ | child_environment(), stdin=subprocess.DEVNULL, stdout=2, **process_group
    )
    with _forward_signals(process) as received:
        code = process.wait()
    if received[:1] == [signal.SIGTERM]:
        raise StoppedError("stopped by SIGTERM", exit_code=128 + signal.SIGTERM)
    if received or code in {130, -signal.SIGINT}:
        raise KeyboardInterrupt
    return code


@contextmanager
def _forward_signals(process: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    """Forward SIGINT and SIGTERM to a process; yields the list of forwarded signals."""
    received: list[int] = []

    def forward(number: int, _: object) -> None:
        received.append(number)
        process.send_signal(number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def launch(argv: Sequence[str], *, processes: int, device: str | None) -> None:
    """Run `guidino ARGV` in several processes, and exit with the code of the one that failed first.

    Raises:
        ConfigError: Fewer devices than processes, or a time limit that is no number.
        ResourceError: A process was killed, or stopped.
        KeyboardInterrupt: SIGINT, which was forwarded to the processes.
        StoppedError: Another signal, which was forwarded, too.
    """
    _require_devices(processes, device)
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    from guidino_cli.engine.ranks import rank_timeout

    # Otherwise every process would complain of it.
    rank_timeout()
    # More threads than cores would wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, usable_cpus() // processes)))
    # An interrupted process finishes its step and saves its state before it may be killed.
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "600")
    os.environ.update(child_environment())
    # torchrun's reports repeat at length what the failing process has printed in one line.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=str(uuid.uuid4()),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
    )
    try:
        with end_stopped_ranks() as stopped:
            elastic_launch(config, sys.executable)("-m", "guidino_cli", *argv)
    except SignalException as stop:
        if stop.sigval == signal.SIGINT:
            raise KeyboardInterrupt from stop
        number = int(stop.sigval)
        raise StoppedError(f"ended by signal {number}; resume with --resume", exit_code=128 + number) from stop
    except ChildFailedError as error:
        cause = explain_failure(error.failures, processes=processes, stopped=stopped)
        if isinstance(cause, int):
            sys.exit(cause)
        raise cause from error


def _require_devices(processes: int, device: str | None) -> None:
    import torch

    if device not in {None, "cpu", "cuda"}:
        raise ConfigError(f"--device {device} is one device; select GPUs for --devices with CUDA_VISIBLE_DEVICES")
    gpus = torch.cuda.device_count()
    if device != "cpu" and gpus < processes:
        raise ConfigError(
            f"--devices {processes}: there are {gpus} CUDA devices; for processes on the CPU add --device cpu"
        )
