"""One training step: what a batch teaches a model."""

from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from torch.profiler import record_function

from guidino_cli.config import RunConfig, TrainSettings
from guidino_cli.data.augment import draw
from guidino_cli.data.augment_batch import apply
from guidino_cli.data.order import random_generator
from guidino_cli.engine.dense_maps.cache import DenseCache, memory_cache
from guidino_cli.engine.dense_maps.files import DiskCache
from guidino_cli.engine.dense_maps.folder import bytes_in, default_folder, disk_cache
from guidino_cli.engine.precision import in_full
from guidino_cli.engine.training.batch_norm import is_shared, shared
from guidino_cli.engine.training.objective import Objective
from guidino_cli.engine.training.optim import make_optimizer, make_schedule
from guidino_cli.engine.training.quicker import make_quicker
from guidino_cli.engine.training.sharding import ShardedBackbone, in_step, out_of_sight
from guidino_cli.models.base import Backbone
from guidino_cli.models.composed import Model, Recall
from guidino_cli.models.finetune import checkpoint_blocks
from guidino_cli.progress import say
from guidino_cli.types import Sample


class Learner:
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
        self._objective = Objective(settings.loss, has_guide=model.guide is not None)
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
            fresh=() if model.backbone is None else model.backbone.own,
        )
        if is_shared(settings.sync_batch_norm, device=accelerator.device, processes=accelerator.num_processes):
            model.segmenter = shared(model.segmenter)
        make_quicker(model, settings, device=accelerator.device, precision=accelerator.mixed_precision)
        if settings.shard_backbone and model.backbone is not None:
            model.backbone = ShardedBackbone(model.backbone, accelerator.device)
        with out_of_sight(model):
            self.model, self.optimizer = accelerator.prepare(model, optimizer)
        self.bare_model: Model = accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        steps = -(-batches // settings.accumulate)
        self.schedule = make_schedule(
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
                prediction = self.model(image, recall=self._recall(batch))
            with record_function("guidino.loss"):
                terms = self._objective(in_full(prediction), mask)
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

    def _recall(self, batch: Sample) -> Recall | None:
        """Where a training sample is the same in every epoch, so are its dense maps."""
        if self.dense_cache is None or not _comes_again(self._config):
            return None
        keys = [("train", index) for index in batch.case_index.tolist()]
        return in_step(self.bare_model.backbone, partial(self.dense_cache.recall, keys, pixels=batch.image))

    def _augmented(self, batch: Sample, epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Image and mask on the device, changed as the seed, the epoch and the case say."""
        draws = [
            draw(self._config.data.augment, random_generator(self._config.seed, epoch, index, 1))
            for index in batch.case_index.tolist()
        ]
        image, mask = (item.to(self._accelerator.device, non_blocking=True) for item in (batch.image, batch.mask))
        return apply(image, mask, draws)


def _dense_cache(backbone: Backbone | None, settings: TrainSettings, device: torch.device) -> DenseCache | None:
    """Where the settings want dense maps kept."""
    if settings.dense_cache == "memory":
        return memory_cache(backbone, settings.dense_cache_gb)
    chosen = settings.dense_cache_folder
    root = default_folder() if chosen is None else Path(chosen).expanduser()
    return disk_cache(backbone, root=root, gigabytes=settings.dense_cache_disk_gb, device=device)


def _say_where(cache: DenseCache | None, config: RunConfig) -> None:
    """Name the folder whose size grows, and what does not come again although its maps were to be kept."""
    if config.train.dense_cache == "memory":
        return
    if not isinstance(cache, DiskCache):
        say("guidino: train.dense_cache=disk: no maps are kept, because no frozen backbone gives any")
        return
    gigabytes = bytes_in(cache.folder.parent) / 1e9
    say(f"guidino: dense maps are kept in {cache.folder} ({gigabytes:.1f} of {config.train.dense_cache_disk_gb:g} GB)")
    if not _comes_again(config):
        say(
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
        checkpoint_blocks(model.backbone)


def _heads(model: Model) -> list[torch.nn.Module]:
    return [part for part in (model.segmenter, model.guide) if part is not None]
