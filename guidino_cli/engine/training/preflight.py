"""Preflight checks: device, precision and packages, before any data or weights are loaded."""

import os

import torch

from guidino_cli.config import RunConfig, TrainSettings
from guidino_cli.engine.devices import pick_device, resolve_precision, resolve_prediction_precision
from guidino_cli.engine.training.sharded_backbone import too_few_processes_error
from guidino_cli.engine.training.trackers import require_tracker_packages
from guidino_cli.errors import ConfigError

# Set by `accelerate launch`, for plugins that keep only a part of the weights in each process.
_SHARDING = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron",
}


def run_preflight(config: RunConfig, device: str | None, *, processes: int | None = None) -> None:
    """Raise an error for settings that this machine cannot run.

    Args:
        config: Settings of the run.
        device: Requested device.
        processes: Number of processes of the run, or None if they are not started, as in a dry run.

    Raises:
        ConfigError: The device does not exist, precision or batch normalization needs CUDA, weights are sharded by a
            plugin of accelerate, or a backbone is to be sharded over a single process.
        DependencyError: A tracker's package is missing.
    """
    for name, kind in _SHARDING.items():
        if os.environ.get(name, "false").lower() in {"1", "true"}:
            raise ConfigError(
                f"{name} is set: {kind} splits the weights over processes, but guidino saves whole ones; "
                "use --devices N or torchrun; train.shard_backbone=true splits a frozen backbone, which is not saved"
            )
    if config.train.shard_backbone and processes == 1:
        raise too_few_processes_error("one process")
    if device is not None:
        pick_device(device)
    resolve_precision(config.train.precision, device)
    without_cuda = device == "cpu" or not torch.cuda.is_available()
    if without_cuda:
        resolve_prediction_precision(config.predict.precision, validated=None, device=torch.device("cpu"))
    require_tracker_packages(config.train.trackers)
    _require_useful_settings(config.train, is_cpu=device == "cpu" or not torch.cuda.is_available())


def set_deterministic_algorithms(settings: TrainSettings) -> None:
    """Restrict torch to deterministic algorithms if `train.deterministic` is on."""
    if settings.deterministic:
        # Read when CUDA is initialized; without it cuBLAS has no fixed order of sums.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False


def _require_useful_settings(settings: TrainSettings, *, is_cpu: bool) -> None:
    if settings.sync_batch_norm is True and is_cpu:
        raise ConfigError(
            "train.sync_batch_norm is true, but torch supports it on CUDA devices only; leave it at auto, or "
            "choose a segmenter with instance normalization, such as nnunet"
        )
    if settings.profile in {1, 2}:
        raise ConfigError(
            f"train.profile is {settings.profile}, but the first two steps are not profiled, since they set things up; "
            "give the last step to profile, such as 8, or 0 for none"
        )
