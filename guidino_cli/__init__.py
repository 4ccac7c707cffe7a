"""guidino: medical image segmentation guided by a frozen vision foundation model."""

from importlib import import_module
from typing import TYPE_CHECKING, Any
from warnings import warn

from guidino_cli.processes import keep_hub_quiet, use_passive_threads

__version__ = "0.1.0"

if TYPE_CHECKING:
    from guidino_cli.api.evaluation import MaskScores, evaluate
    from guidino_cli.api.runs import MaskAndGuide, TrainedRun, load_run
    from guidino_cli.api.workflow import prepare, train

_MODULES = {
    "MaskAndGuide": "guidino_cli.api.runs",
    "MaskScores": "guidino_cli.api.evaluation",
    "TrainedRun": "guidino_cli.api.runs",
    "evaluate": "guidino_cli.api.evaluation",
    "load_run": "guidino_cli.api.runs",
    "prepare": "guidino_cli.api.workflow",
    "train": "guidino_cli.api.workflow",
}

# At once, for a program that imports torch next.
_HAS_PASSIVE_THREADS = use_passive_threads()

__all__ = ["MaskAndGuide", "MaskScores", "TrainedRun", "evaluate", "load_run", "prepare", "train"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: torch alone takes seconds, and `guidino --help` needs none of it."""
    if name not in _MODULES:
        raise AttributeError(f"module 'guidino_cli' has no attribute '{name}'")
    if not _HAS_PASSIVE_THREADS:
        warn(
            "torch was imported before guidino_cli, so its threads spin while they wait; import guidino_cli first, or "
            "set OMP_WAIT_POLICY=PASSIVE",
            stacklevel=2,
        )
    keep_hub_quiet()
    globals()[name] = found = getattr(import_module(_MODULES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
