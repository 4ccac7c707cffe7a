"""One guidino command in several processes of this machine, a device each: torchrun, started for you."""

import logging
import os
import signal
import sys
import uuid
from collections.abc import Sequence

from guidino_cli.errors import ConfigError, ResourceError, StoppedError
from guidino_cli.parent import for_children


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
    os.environ.update(for_children())
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
