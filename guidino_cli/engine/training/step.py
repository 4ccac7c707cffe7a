"""One optimization step, and the speed-ups that do not change what it computes."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from torch import nn
from torch.profiler import record_function

from guidino_cli.config import RunConfig, TrainSettings
from guidino_cli.data.augment import augment_batch, draw_augmentation
from guidino_cli.data.dataset import random_generator
from guidino_cli.engine.devices import to_float32
from guidino_cli.engine.feature_cache.cache import FeatureCache, make_memory_cache
from guidino_cli.engine.feature_cache.disk import DiskCache, cached_bytes, default_cache_folder, open_disk_cache
from guidino_cli.engine.training.loss import SegmentationLoss
from guidino_cli.engine.training.optim import make_optimizer, make_scheduler
from guidino_cli.engine.training.sharded_backbone import ShardedBackbone, hidden_from_accelerate, synchronize_features
from guidino_cli.models.base import Backbone, Segmenter
from guidino_cli.models.composed import GetOrCompute, Model
from guidino_cli.models.lora import enable_gradient_checkpointing
from guidino_cli.processes import keep_all_freed_memory
from guidino_cli.progress import log_info
from guidino_cli.types import Sample


def is_batch_norm_synced(wanted: Literal["auto", True, False], *, device: torch.device, processes: int) -> bool:
    """Whether statistics are taken over all processes: "auto" is yes where several train on GPUs."""
    return processes > 1 and device.type == "cuda" if wanted == "auto" else wanted


def convert_sync_batch_norm(segmenter: Segmenter) -> Segmenter:
    """The segmenter with batch normalisation over the images of all processes; weights and names stay."""
    converted: Segmenter = nn.SyncBatchNorm.convert_sync_batchnorm(segmenter)
    return converted


def apply_speedups(model: Model, settings: TrainSettings, *, device: torch.device, precision: str) -> None:
    """Rearrange and compile the segmenter as the settings say, before anything wraps the model."""
    if device.type == "cpu":
        keep_all_freed_memory()
    if is_channels_last(settings.channels_last, device=device, precision=precision):
        to_channels_last(model.segmenter)
    if settings.compile:
        compile_segmenter(model.segmenter)


def is_channels_last(wanted: Literal["auto", True, False], *, device: torch.device, precision: str) -> bool:
    """Whether the segmenter trains with channels next to each other in memory.

    "auto" is yes where the fast kernels want it: on a GPU in bf16 or fp16 (tensor cores), and on a CPU with AVX-512 or
    AMX. On AVX2 alone the forward of nnWNet took 0.73 of the time, the backward 1.36, so that a step lost.
    """
    if wanted != "auto":
        return wanted
    if device.type == "cpu":
        return torch.cpu._is_avx512_supported()
    return device.type == "cuda" and precision in {"bf16", "fp16"}


def to_channels_last(network: nn.Module) -> None:
    """Put the weights of convolutions channels-last; maps follow. Names and values stay."""
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def compile_segmenter(segmenter: Segmenter, *, backend: str = "inductor") -> None:
    """Have torch compile both halves for training. Names of weights stay, and validation, of other sizes, is plain.

    If torch cannot, for want of a C++ compiler for instance, it says why once, and the plain network is used.

    Args:
        segmenter: Changed in place.
        backend: Of torch.compile.
    """
    for name in ("encode", "decode"):
        plain = getattr(segmenter, name)
        setattr(segmenter, name, _CompiledHalf(segmenter, plain, torch.compile(plain, backend=backend)))


class _CompiledHalf:
    def __init__(self, segmenter: Segmenter, plain: Callable[..., Any], compiled: Callable[..., Any]) -> None:
        self._segmenter, self._plain, self._compiled = segmenter, plain, compiled
        self._has_worked = self._has_failed = False

    def __call__(self, *arguments: Any) -> Any:
        if self._has_failed or not self._segmenter.training:
            return self._plain(*arguments)
        try:
            result = self._compiled(*arguments)
        except Exception as error:
            # Errors of the network itself, such as too little memory, come again without the compiler.
            if self._has_worked:
                raise
            self._has_failed = True
            log_info(f"train.compile: torch cannot compile the segmenter ({_reason(error)}); going on without")
            return self._plain(*arguments)
        self._has_worked = True
        return result


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__


class TrainStep:
    """A model with its optimiser and schedule.

    Args:
        model: Freshly built.
        config: Of the run.
        accelerator: Of the run.
        batches: How many an epoch has on this process.

    Attributes:
        model: As it is trained, with what accelerate wraps around it.
        bare_model: The same model without any wrapper, accelerate's mixed precision included.
        optimizer: As accelerate prepared it.
        schedule: Learning rate; one step for each of the optimiser's.
        dense_cache: Where the dense maps of a frozen backbone are kept.
    """

    def __init__(self, model: Model, config: RunConfig, accelerator: Accelerator, *, batches: int) -> None:
        settings = config.train
        self._config, self._accelerator, self._batches = config, accelerator, batches
        self._objective = SegmentationLoss(settings.loss, has_guide=model.guide is not None)
        self.dense_cache = _dense_cache(model.backbone, settings, accelerator.device)
        if accelerator.is_main_process:
            _say_where(self.dense_cache, config)
        _settle_what_learns(model, config)
        optimizer = make_optimizer(
            model,
            name=settings.optimizer,
            lr=settings.lr,
            weight_decay=settings.weight_decay,
            adapter_lr=settings.lora_lr,
            backbone_lr=settings.backbone_lr,
            betas=settings.betas,
            fresh=() if model.backbone is None else model.backbone.adapter_names,
        )
        if is_batch_norm_synced(
            settings.sync_batch_norm, device=accelerator.device, processes=accelerator.num_processes
        ):
            model.segmenter = convert_sync_batch_norm(model.segmenter)
        apply_speedups(model, settings, device=accelerator.device, precision=accelerator.mixed_precision)
        if settings.shard_backbone and model.backbone is not None:
            model.backbone = ShardedBackbone(model.backbone, accelerator.device)
        with hidden_from_accelerate(model):
            self.model, self.optimizer = accelerator.prepare(model, optimizer)
        self.bare_model: Model = accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        steps = -(-batches // settings.accumulate)
        self.schedule = make_scheduler(
            optimizer,
            name=settings.schedule,
            steps=steps * settings.epochs,
            warmup_steps=round(steps * settings.warmup_epochs),
            poly_power=settings.poly_power,
        )

    def train_mode(self) -> None:
        """Be ready to learn."""
        self.model.train()
        if self._config.train.freeze_heads:
            # Frozen means that the statistics of batch normalisation stay, too.
            for head in _heads(self.bare_model):
                head.eval()

    def learn(self, batch: Sample, *, epoch: int, step: int) -> dict[str, torch.Tensor]:
        """Learn from a batch; every loss term, and "loss", on the device.

        Args:
            batch: Of the epoch.
            epoch: Counted from 0.
            step: Which batch of the epoch it is on this process, counted from 0.
        """
        with record_function("guidino.augment"):
            image, mask = self._augmented(batch, epoch)
        with self._accelerator.accumulate(self.model):
            with record_function("guidino.forward"), self._accelerator.autocast():
                prediction = self.model(image, get_or_compute=self._recall(batch))
            with record_function("guidino.loss"):
                terms = self._objective(to_float32(prediction), mask)
            with record_function("guidino.backward"):
                self._accelerator.backward(self._share(terms["loss"], step))
            with record_function("guidino.optimize"):
                if self._accelerator.sync_gradients:
                    self._accelerator.clip_grad_norm_(self.model.parameters(), self._config.train.clip_norm)
                self.optimizer.step()
                self.optimizer.zero_grad()
        if self._accelerator.sync_gradients:
            self.schedule.step()
        return terms

    def _share(self, loss: torch.Tensor, step: int) -> torch.Tensor:
        """What accelerate's division by `train.accumulate` makes a batch's share in the mean over its own group."""
        whole, last = self._config.train.accumulate, self._batches % self._config.train.accumulate
        return loss * (whole / last) if step >= self._batches - last and last else loss

    def _recall(self, batch: Sample) -> GetOrCompute | None:
        """Where a training sample is the same in every epoch, so are its dense maps."""
        if self.dense_cache is None or not _comes_again(self._config):
            return None
        keys = [("train", index) for index in batch.case_index.tolist()]
        return synchronize_features(
            self.bare_model.backbone, partial(self.dense_cache.recall, keys, pixels=batch.image)
        )

    def _augmented(self, batch: Sample, epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Image and mask on the device, changed as the seed, the epoch and the case say."""
        draws = [
            draw_augmentation(self._config.data.augment, random_generator(self._config.seed, epoch, index, 1))
            for index in batch.case_index.tolist()
        ]
        image, mask = (item.to(self._accelerator.device, non_blocking=True) for item in (batch.image, batch.mask))
        return augment_batch(image, mask, draws)


def _dense_cache(backbone: Backbone | None, settings: TrainSettings, device: torch.device) -> FeatureCache | None:
    """Where the settings want dense maps kept."""
    if settings.dense_cache == "memory":
        return make_memory_cache(backbone, settings.dense_cache_gb)
    chosen = settings.dense_cache_folder
    root = default_cache_folder() if chosen is None else Path(chosen).expanduser()
    return open_disk_cache(backbone, root=root, gigabytes=settings.dense_cache_disk_gb, device=device)


def _say_where(cache: FeatureCache | None, config: RunConfig) -> None:
    """Name the folder whose size grows, and what does not come again although its maps were to be kept."""
    if config.train.dense_cache == "memory":
        return
    if not isinstance(cache, DiskCache):
        log_info("guidino: train.dense_cache=disk: no maps are kept, because no frozen backbone gives any")
        return
    gigabytes = cached_bytes(cache.folder.parent) / 1e9
    log_info(
        f"guidino: dense maps are kept in {cache.folder} ({gigabytes:.1f} of {config.train.dense_cache_disk_gb:g} GB)"
    )
    if not _comes_again(config):
        log_info(
            "guidino: of validation images alone: training images change from epoch to epoch, unless "
            "data.augment=none and data.resize=stretch"
        )


def _comes_again(config: RunConfig) -> bool:
    """Whether a training image is the same in every epoch."""
    return config.data.augment == "none" and config.data.resize == "stretch"


def _settle_what_learns(model: Model, config: RunConfig) -> None:
    """Freeze the heads of a model whose adapter alone is trained, and let its backbone save memory."""
    if config.train.freeze_heads:
        for head in _heads(model):
            head.requires_grad_(False)
    if config.train.checkpointing and model.backbone is not None:
        enable_gradient_checkpointing(model.backbone)


def _heads(model: Model) -> list[torch.nn.Module]:
    return [part for part in (model.segmenter, model.guide) if part is not None]
