"""The process group of a run of several processes, and how long its ranks wait for each other."""

import os
from datetime import timedelta

from accelerate import PartialState

from guidino_cli.distributed import set_timeout
from guidino_cli.errors import ConfigError

TIMEOUT_VARIABLE = "GUIDINO_RANK_TIMEOUT_MINUTES"
_DEFAULT_MINUTES = 240.0


def rank_timeout() -> timedelta:
    """Time that a rank waits for the others in a collective operation, by default four hours.

    Torch's ten minutes with NCCL are less than one rank may need while the others wait: to fingerprint a million files,
    to save a large state, to validate the largest volume. A rank that dies is noticed at once all the same.

    Raises:
        ConfigError: The environment variable is no positive number of minutes.
    """
    text = os.environ.get(TIMEOUT_VARIABLE)
    if text is None:
        return timedelta(minutes=_DEFAULT_MINUTES)
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not 0 < minutes < 1e6:
        raise ConfigError(f"{TIMEOUT_VARIABLE} is {text!r}, expected a number of minutes, such as 30")
    return timedelta(minutes=minutes)


def start_ranks(*, cpu: bool) -> PartialState:
    """Accelerate's state of this process; of several, it starts the process group with `rank_timeout`."""
    timeout = rank_timeout()
    set_timeout(timeout)
    return PartialState(cpu=cpu, timeout=timeout)
