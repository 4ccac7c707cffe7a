"""One optimization step: augmentation, features, loss, gradients, optimizer and schedule."""

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from torch.profiler import record_function

from guidino_cli.config import RunConfig, TrainSettings
from guidino_cli.data.augment import EXACT_LEVELS, AugmentationParams, augment_batch, orient
from guidino_cli.data.dataset import SampleIndex
from guidino_cli.device_transfer import to_device
from guidino_cli.engine.devices import resolve_prediction_precision, to_float32
from guidino_cli.engine.feature_cache.cache import FeatureCache, make_memory_cache
from guidino_cli.engine.feature_cache.disk import DiskCache, cached_bytes, default_cache_folder, open_disk_cache
from guidino_cli.engine.feature_cache.volumes import VolumeFeatures
from guidino_cli.engine.training.data import draw_for_sample
from guidino_cli.engine.training.loss import SegmentationLoss
from guidino_cli.engine.training.optim import make_optimizer, make_scheduler
from guidino_cli.engine.training.sharded_backbone import ShardedBackbone, hidden_from_accelerate, synchronize_features
from guidino_cli.engine.training.speedups import apply_speedups, convert_sync_batch_norm, is_batch_norm_synced
from guidino_cli.models.base import Backbone
from guidino_cli.models.composed import GetOrCompute, Model
from guidino_cli.models.finetuning import enable_gradient_checkpointing
from guidino_cli.progress import log_info
from guidino_cli.types import Sample, VolumeSample


class TrainStep:
    """One optimization step, with its model, optimizer and learning-rate schedule.

    Args:
        model: Freshly built.
        config: Settings of the run.
        accelerator: Accelerator of the run.
        batches: Number per epoch on this process.
        has_ignored: Whether masks may hold `IGNORED`.
        is_unit: Whether images are in [0, 1]; z-scores are not.

    Attributes:
        model: As it is trained, wrapped by accelerate.
        bare_model: The same model without any wrapper, also without accelerate's mixed precision.
        optimizer: As accelerate prepared it.
        schedule: Learning rate; one step for each optimizer step.
        feature_cache: Caches the features of a frozen backbone; None without one.
        volume_features: Maps of the slices of training volumes, for patches that show whole slices; None without.
        folds: (n,) fold of each training case, for a guide that is another one for each; None without.
    """

    def __init__(
        self,
        model: Model,
        config: RunConfig,
        accelerator: Accelerator,
        *,
        batches: int,
        has_ignored: bool = False,
        is_unit: bool = True,
    ) -> None:
        settings = config.train
        self._config, self._accelerator, self._batches, self._is_unit = config, accelerator, batches, is_unit
        self._loss = SegmentationLoss(
            settings.loss,
            has_guide=model.guide is not None,
            class_weights=settings.class_weights,
            level_weights=model.segmenter.level_weights,
            has_ignored=has_ignored,
        )
        self.volume_features: VolumeFeatures | None = None
        self.folds: torch.Tensor | None = None
        self.feature_cache = _make_cache(model.backbone, settings, accelerator.device)
        if accelerator.is_main_process:
            _log_cache_folder(self.feature_cache, config)
        _freeze_and_checkpoint(model, config)
        optimizer = make_optimizer(
            model,
            name=settings.optimizer,
            lr=settings.lr,
            weight_decay=settings.weight_decay,
            adapter_lr=settings.lora_lr,
            backbone_lr=settings.backbone_lr,
            betas=settings.betas,
            eps=settings.eps,
            fresh=() if model.backbone is None else model.backbone.adapter_names,
            device=accelerator.device,
        )
        if is_batch_norm_synced(
            settings.sync_batch_norm, device=accelerator.device, processes=accelerator.num_processes
        ):
            model.segmenter = convert_sync_batch_norm(model.segmenter)
        apply_speedups(model, settings, device=accelerator.device, precision=accelerator.mixed_precision)
        if settings.shard_backbone and model.backbone is not None:
            model.backbone = ShardedBackbone(
                model.backbone, accelerator.device, _feature_precision(config, accelerator)
            )
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
            final_lr=settings.final_lr,
        )

    def apply_schedule(self) -> None:
        """Set the learning rates that the schedule gives for its current step; the saved ones may be of another."""
        schedule = self.schedule
        for group, base, factor in zip(
            schedule.optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True
        ):
            group["lr"] = base * factor(schedule.last_epoch)

    def train_mode(self) -> None:
        """Set training mode, except for frozen heads: their batch normalization statistics must stay, too."""
        self.model.train()
        if self._config.train.freeze_heads:
            for head in _heads(self.bare_model):
                head.eval()

    def __call__(self, batch: Sample | VolumeSample, *, epoch: int, step: int) -> dict[str, torch.Tensor]:
        """Train on a batch; returns every loss term, and their sum as "loss", on the device.

        Args:
            batch: Batch of the epoch.
            epoch: From 0.
            step: Number of the batch within the epoch on this process, from 0.
        """
        with record_function("guidino.augment"):
            params = self._draw(batch, epoch)
            image, mask = self._augment(batch, params)
        with self._accelerator.accumulate(self.model):
            with record_function("guidino.forward"), self._accelerator.autocast():
                features = self._cached_features(batch, params)
                prediction = self.model(image, get_or_compute=features, folds=self._folds_of(batch))
            with record_function("guidino.loss"):
                terms = self._loss(to_float32(prediction), mask)
            with record_function("guidino.backward"):
                self._accelerator.backward(self._rescale_short_group(terms["loss"], step))
            with record_function("guidino.optimize"):
                if self._accelerator.sync_gradients:
                    self._accelerator.clip_grad_norm_(self.model.parameters(), self._config.train.clip_norm)
                self.optimizer.step()
                self.optimizer.zero_grad()
        if self._accelerator.sync_gradients:
            self.schedule.step()
        return terms

    def _rescale_short_group(self, loss: torch.Tensor, step: int) -> torch.Tensor:
        """Make the last group of an epoch a mean over its own batches: accelerate divides by `train.accumulate`."""
        group, last = self._config.train.accumulate, self._batches % self._config.train.accumulate
        return loss * (group / last) if step >= self._batches - last and last else loss

    def _folds_of(self, batch: Sample | VolumeSample) -> torch.Tensor | None:
        if self.folds is None:
            return None
        return to_device(self.folds[batch.case_index], self._accelerator.device)

    def unaugmented_features(self, batch: Sample | VolumeSample) -> list[torch.Tensor]:
        """Maps of a frozen backbone of each sample as it is, cached where it is the same in every epoch.

        Samples are seen one by one, so that rounding does not depend on which of them share a batch.
        """
        parts = list[list[torch.Tensor]]()
        for place, key in enumerate(_sample_keys(batch)):
            image = batch.image[place : place + 1]
            compute = partial(self._compute_maps, image)
            if self.feature_cache is None or not _repeats_images(self._config):
                parts.append(compute())
            else:
                parts.append(self.feature_cache.get_or_compute([key], compute, pixels=image))
        return [torch.cat(levels) for levels in zip(*parts, strict=True)]

    def _compute_maps(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Of an image in main memory, which goes to the device only if its maps are not cached."""
        return self.bare_model.dense_maps(to_device(image, self._accelerator.device))

    def _cached_features(
        self, batch: Sample | VolumeSample, params: Sequence[AugmentationParams]
    ) -> GetOrCompute | None:
        """Cached backbone features, where a training sample is the same in every epoch, or is only turned."""
        if self.volume_features is not None and isinstance(batch, VolumeSample):
            return partial(_cached_patches, self.volume_features, batch)
        backbone = self.bare_model.backbone
        if self._config.data.augment in EXACT_LEVELS and backbone is not None and backbone.is_frozen:
            return synchronize_features(
                backbone, lambda _: [orient(level, params) for level in self.unaugmented_features(batch)]
            )
        if self.feature_cache is None or not _repeats_samples(self._config):
            return None
        lookup = partial(self.feature_cache.get_or_compute, _sample_keys(batch), pixels=batch.image)
        return synchronize_features(self.bare_model.backbone, lookup)

    def _draw(self, batch: Sample | VolumeSample, epoch: int) -> list[AugmentationParams]:
        """The augmentation of each sample, which seed, epoch and sample determine."""
        # Two samples of one volume must not be augmented alike.
        indices = batch.position if isinstance(batch, VolumeSample) else batch.case_index
        shape = batch.image.shape[1:]
        return [draw_for_sample(self._config, SampleIndex(epoch, index), shape) for index in indices.tolist()]

    def _augment(
        self, batch: Sample | VolumeSample, params: Sequence[AugmentationParams]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Image and mask on the device, augmented."""
        image, mask = (item.to(self._accelerator.device, non_blocking=True) for item in (batch.image, batch.mask))
        return augment_batch(image, mask, params, is_unit=self._is_unit, noise=batch.noise)


def _cached_patches(
    features: VolumeFeatures, batch: VolumeSample, compute: Callable[[], list[torch.Tensor]]
) -> list[torch.Tensor]:
    """Maps of patches; those that are not cached are rounded alike, so that a run does not depend on the cache."""
    found = features.patches(batch.case_index.tolist(), batch.corner[:, 0].tolist(), batch.image.shape[2])
    return [level.half().float() for level in compute()] if found is None else found


def _sample_keys(batch: Sample | VolumeSample) -> list[tuple[Hashable, ...]]:
    """A key for what each sample shows: its image, or its slice or patch of a volume."""
    if isinstance(batch, VolumeSample):
        places = zip(batch.case_index.tolist(), batch.corner.tolist(), strict=True)
        return [("train", case, *corner) for case, corner in places]
    return [("train", index) for index in batch.case_index.tolist()]


def _feature_precision(config: RunConfig, accelerator: Accelerator) -> str:
    """Precision in which training and validation both compute; "no" if they differ."""
    training = accelerator.mixed_precision
    validation = resolve_prediction_precision(config.predict.precision, validated=training, device=accelerator.device)
    return training if training == validation else "no"


def _make_cache(backbone: Backbone | None, settings: TrainSettings, device: torch.device) -> FeatureCache | None:
    if settings.dense_cache == "memory":
        return make_memory_cache(backbone, settings.dense_cache_gb)
    chosen = settings.dense_cache_folder
    root = default_cache_folder() if chosen is None else Path(chosen).expanduser()
    return open_disk_cache(backbone, root=root, gigabytes=settings.dense_cache_disk_gb, device=device)


def _log_cache_folder(cache: FeatureCache | None, config: RunConfig) -> None:
    """Say which folder grows, and which features are not cached although `train.dense_cache=disk` asks for it."""
    if config.train.dense_cache == "memory":
        return
    if not isinstance(cache, DiskCache):
        log_info("guidino: train.dense_cache=disk has no effect: there is no frozen backbone")
        return
    gigabytes = cached_bytes(cache.folder.parent) / 1e9
    limit = config.train.dense_cache_disk_gb
    log_info(f"guidino: backbone features are cached in {cache.folder} ({gigabytes:.1f} of {limit:g} GB)")
    is_turned = config.data.augment in EXACT_LEVELS and _repeats_images(config)
    if not _repeats_samples(config) and not is_turned and config.data.dims != 3:
        log_info(
            "guidino: only those of validation images: training images change from epoch to epoch, unless "
            "data.augment is none, mirror or dihedral and data.resize is stretch or longer"
        )


def _repeats_samples(config: RunConfig) -> bool:
    """Whether a training image, or a slice of a volume, is the same in every epoch."""
    return config.data.augment == "none" and _repeats_images(config)


def _repeats_images(config: RunConfig) -> bool:
    """The same before augmentation."""
    return config.data.resize in ("stretch", "longer") and config.data.dims != 3


def _freeze_and_checkpoint(model: Model, config: RunConfig) -> None:
    """Apply `train.freeze_heads` and `train.checkpointing` (activation checkpointing of the backbone)."""
    if config.train.freeze_heads:
        for head in _heads(model):
            head.requires_grad_(False)
    if config.train.checkpointing and model.backbone is not None:
        enable_gradient_checkpointing(model.backbone)


def _heads(model: Model) -> list[torch.nn.Module]:
    return [part for part in (model.segmenter, model.guide, model.prior) if part is not None]
