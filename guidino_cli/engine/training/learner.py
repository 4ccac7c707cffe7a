"""One training step: what a batch teaches a model."""

from functools import partial

import torch
from accelerate import Accelerator

from guidino_cli.config import RunConfig
from guidino_cli.data.augment import draw
from guidino_cli.data.augment_batch import apply
from guidino_cli.data.order import random_generator
from guidino_cli.engine.dense_cache import dense_cache
from guidino_cli.engine.precision import in_full
from guidino_cli.engine.training.objective import Objective
from guidino_cli.engine.training.optim import make_optimizer, make_schedule
from guidino_cli.engine.training.quicker import make_quicker
from guidino_cli.models.composed import Model, Recall
from guidino_cli.models.finetune import checkpoint_blocks
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
        self.dense_cache = dense_cache(model.backbone, settings.dense_cache_gb)
        _settle_what_learns(model, config)
        optimizer = make_optimizer(
            model,
            name=settings.optimizer,
            lr=settings.lr,
            weight_decay=settings.weight_decay,
            adapter_lr=settings.lora_lr,
            backbone_lr=settings.backbone_lr,
            betas=settings.betas,
        )
        make_quicker(model, settings, device=accelerator.device, precision=accelerator.mixed_precision)
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
        image, mask = self._augmented(batch, epoch)
        with self._accelerator.accumulate(self.model):
            with self._accelerator.autocast():
                prediction = self.model(image, recall=self._recall(batch))
            terms = self._objective(in_full(prediction), mask)
            self._accelerator.backward(self._share(terms["loss"], step))
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
        settings = self._config.data
        if self.dense_cache is None or settings.augment != "none" or settings.resize != "stretch":
            return None
        return partial(self.dense_cache.recall, [("train", index) for index in batch.case_index.tolist()])

    def _augmented(self, batch: Sample, epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Image and mask on the device, changed as the seed, the epoch and the case say."""
        draws = [
            draw(self._config.data.augment, random_generator(self._config.seed, epoch, index, 1))
            for index in batch.case_index.tolist()
        ]
        image, mask = (item.to(self._accelerator.device, non_blocking=True) for item in (batch.image, batch.mask))
        return apply(image, mask, draws)


def _settle_what_learns(model: Model, config: RunConfig) -> None:
    """Freeze the heads of a model whose adapter alone is trained, and let its backbone save memory."""
    if config.train.freeze_heads:
        for head in _heads(model):
            head.requires_grad_(False)
    if config.train.checkpointing and model.backbone is not None:
        checkpoint_blocks(model.backbone)


def _heads(model: Model) -> list[torch.nn.Module]:
    return [part for part in (model.segmenter, model.guide) if part is not None]
