"""Run a guidino command in child processes: one, or several by torchrun with a device each."""

import logging
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from guidino_cli.errors import ConfigError, ResourceError, StoppedError
from guidino_cli.processes import child_environment

_POSIX = os.name == "posix"


def run_in_subprocess(words: Sequence[str]) -> int:
    """Run `guidino WORDS` and return its exit code, or minus the signal that ended it.

    Its standard output goes to stderr: the caller has results of its own. An interruption or a request to terminate is
    handed on once, and the child is waited for, because it has work to save.

    Raises:
        KeyboardInterrupt: The child was interrupted, or this process was.
        StoppedError: This process was asked to terminate.
    """
    # A group of its own: Ctrl-C in a terminal would otherwise reach it twice.
    own_group: dict[str, Any] = {"process_group": 0} if _POSIX else {}
    command = [sys.executable, "-m", "guidino_cli", *words]
    process = subprocess.Popen(
        command, env=os.environ | child_environment(), stdin=subprocess.DEVNULL, stdout=2, **own_group
    )
    with _handing_on(process) as seen:
        code = process.wait()
    if seen[:1] == [signal.SIGTERM]:
        raise StoppedError("stopped by SIGTERM", exit_code=128 + signal.SIGTERM)
    if seen or code in {130, -signal.SIGINT}:
        raise KeyboardInterrupt
    return code


@contextmanager
def _handing_on(process: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    """Hand SIGINT and SIGTERM on to a process; yields what was handed on."""
    seen: list[int] = []

    def hand_on(number: int, _: object) -> None:
        seen.append(number)
        process.send_signal(number)

    before = {number: signal.signal(number, hand_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def launch(words: Sequence[str], *, processes: int, device: str | None) -> None:
    """Run `guidino WORDS` in `processes` processes, and end with the exit code of the first that failed.

    Raises:
        ConfigError: Fewer devices than processes.
        ResourceError: A process was killed.
        KeyboardInterrupt: Interrupted; the processes were told so, and waited for.
        StoppedError: Asked to terminate; they were told so, too.
    """
    _require_devices(processes, device)
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # Threads of several processes that share the cores would wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    # An interrupted process finishes its step and writes its state before it may be killed.
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "600")
    os.environ.update(child_environment())
    # Its reports repeat at length what the failing process has said in a line.
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
        elastic_launch(config, sys.executable)("-m", "guidino_cli", *words)
    except SignalException as stop:
        if stop.sigval == signal.SIGINT:
            raise KeyboardInterrupt from stop
        number = int(stop.sigval)
        raise StoppedError(f"ended by signal {number}; go on with --resume", exit_code=128 + number) from stop
    except ChildFailedError as error:
        # A process that loses the others may be aborted: what one of them said by its exit code is the cause.
        spoken = [item for item in error.failures.values() if item.exitcode > 0]
        if spoken:
            sys.exit(min(spoken, key=lambda item: item.timestamp).exitcode)
        rank, failure = error.get_first_failure()
        raise ResourceError(
            f"process {rank} of {processes} was killed by signal {-failure.exitcode}, as the system does when "
            "memory runs out; go on with --resume, with fewer --devices or a smaller train.batch_size"
        ) from error


def _require_devices(processes: int, device: str | None) -> None:
    import torch

    if device not in {None, "cpu", "cuda"}:
        raise ConfigError(f"--device {device} is one device; choose cards for --devices with CUDA_VISIBLE_DEVICES")
    cards = torch.cuda.device_count()
    if device != "cpu" and cards < processes:
        raise ConfigError(
            f"--devices {processes}: there are {cards} CUDA devices; for processes on the CPU add --device cpu"
        )
