"""Fit a model: epochs, validation, the best weights, and a state from which a killed run goes on."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch.utils.data import DataLoader

from guidino_cli.config import RunConfig
from guidino_cli.data.augment import draw
from guidino_cli.data.augment_batch import apply
from guidino_cli.data.dataset import EpochSampler, SegmentationDataset, random_generator
from guidino_cli.data.images import read_label_map
from guidino_cli.engine.dense_cache import dense_cache
from guidino_cli.engine.devices import pick_device
from guidino_cli.engine.inference import Window, segment_file
from guidino_cli.engine.objective import Objective
from guidino_cli.engine.optim import current_rates, make_optimizer, make_schedule
from guidino_cli.engine.run_folder import RunFolder, own_tensors
from guidino_cli.errors import ConfigError, DataError, WeightsError
from guidino_cli.metrics.overlap import mean_dice
from guidino_cli.models.composed import Model, Recall
from guidino_cli.progress import progress, say
from guidino_cli.types import Case, Sample


@dataclass
class _Progress:
    """Where a run stands."""

    epoch: int = 0
    best_dice: float = -1.0
    best_epoch: int = 0


class Trainer:
    """One run on one or many devices.

    Args:
        model: Freshly built.
        config: Checked settings.
        folder: Receives weights, state and history.
        num_classes: K, background included.
        training: Labelled cases to learn from.
        validation: Labelled cases that choose the best epoch; never seen by the optimiser.
        device: "cpu", or None for accelerate's choice.
    """

    def __init__(
        self,
        model: Model,
        config: RunConfig,
        folder: RunFolder,
        *,
        num_classes: int,
        training: Sequence[Case],
        validation: Sequence[Case],
        device: str | None = None,
    ) -> None:
        settings = config.train
        self.config, self.folder, self.num_classes, self.validation = config, folder, num_classes, validation
        self.accelerator = Accelerator(
            cpu=device == "cpu",
            mixed_precision=_precision(settings.precision, device),
            gradient_accumulation_steps=settings.accumulate,
            # Otherwise one call would step the schedule once for every process.
            step_scheduler_with_optimizer=False,
        )
        _require_device(device, self.accelerator.device)
        self.objective = Objective(settings.loss, has_guide=model.guide is not None)
        self.dense_cache = dense_cache(model.backbone, settings.dense_cache_gb)
        self.dataset = _dataset(training, config, num_classes)
        loader: DataLoader[Sample] = DataLoader(
            self.dataset,
            batch_size=settings.batch_size,
            sampler=EpochSampler(len(training), seed=config.seed),
            num_workers=settings.workers,
            # A last batch of one sample would leave batch normalisation nothing to normalise over.
            drop_last=len(training) >= settings.batch_size,
            pin_memory=torch.cuda.is_available(),
        )
        _settle_what_learns(model, config)
        optimizer = make_optimizer(
            model,
            name=settings.optimizer,
            lr=settings.lr,
            weight_decay=settings.weight_decay,
            adapter_lr=settings.lora_lr,
        )
        self.model, self.optimizer, self.loader = self.accelerator.prepare(model, optimizer, loader)
        if len(self.loader) == 0:
            size, processes = settings.batch_size, self.accelerator.num_processes
            raise ConfigError(
                f"{len(training)} training cases fill no batch of {size} on each of {processes} processes; "
                "lower train.batch_size or use fewer processes"
            )
        steps = -(-len(self.loader) // settings.accumulate)
        self.schedule = make_schedule(
            optimizer,
            name=settings.schedule,
            steps=steps * settings.epochs,
            warmup_steps=round(steps * settings.warmup_epochs),
        )
        self.at = _Progress()

    def fit(self, *, after_epoch: Callable[[list[dict[str, Any]]], None] | None = None) -> None:
        """Train to the last epoch, saving after every one.

        Args:
            after_epoch: Told the history when an epoch is saved, in the main process only.
        """
        history = self.folder.history()[: self.at.epoch]
        with progress(enabled=self.accelerator.is_main_process) as bar:
            task = bar.add_task("epochs", total=self.config.train.epochs, completed=self.at.epoch, note="")
            while self.at.epoch < self.config.train.epochs:
                started = time.perf_counter()
                row: dict[str, Any] = {
                    "epoch": self.at.epoch + 1,
                    **current_rates(self.optimizer),
                    **self._train_epoch(bar),
                }
                row["train_seconds"] = round(time.perf_counter() - started, 3)
                self.at.epoch += 1
                if self.at.epoch % self.config.train.validate_every == 0 or self.at.epoch == self.config.train.epochs:
                    row["val_dice"] = self._validate()
                    row["val_seconds"] = round(time.perf_counter() - started - row["train_seconds"], 3)
                history.append(row)
                self._keep(row, history)
                if after_epoch is not None and self.accelerator.is_main_process:
                    after_epoch(history)
                bar.update(task, advance=1, note=f"val Dice {row.get('val_dice', float('nan')):.4f}")

    def resume(self) -> None:
        """Continue behind the last finished epoch of the run's folder."""
        state = self.folder.load_state()
        model = self.accelerator.unwrap_model(self.model)
        for path in self.folder.best_files(model) if state["best_epoch"] else ():
            if not path.is_file():
                lost = f"the best weights, of epoch {state['best_epoch']}, are gone"
                raise WeightsError(f"{path}: {lost}; put them back, or train anew with --overwrite")
        unfit = set(state["model"]) ^ set(own_tensors(model))
        if unfit:
            raise DataError(f"{self.folder.state}: does not fit the model ({len(unfit)} tensors, {min(unfit)})")
        model.load_state_dict(state["model"], strict=False)
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if self.accelerator.scaler is not None and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["rng"])
        if torch.cuda.is_available() and state["cuda_rng"]:
            torch.cuda.set_rng_state_all(state["cuda_rng"])
        self.at = _Progress(state["epoch"], state["best_dice"], state["best_epoch"])

    def _train_epoch(self, bar: Any) -> dict[str, float]:
        """One pass over the training cases; the mean of every loss term."""
        self._train_mode()
        self.dataset.epoch = self.at.epoch
        # Through accelerate's loader, which else counts epochs from 0 again after a resume and tells the sampler so.
        self.loader.set_epoch(self.at.epoch)
        sums: dict[str, torch.Tensor] = {}
        task = bar.add_task(f"epoch {self.at.epoch + 1}", total=len(self.loader), note="")
        for step, batch in enumerate(self.loader):
            terms = self._step(batch)
            for name, value in terms.items():
                sums[name] = sums.get(name, torch.zeros_like(value)) + value.detach()
            # Reading the loss waits for the device, so it is looked at now and then only.
            if step % 20 == 0:
                self._stop_if_not_finite(sums["loss"], step, batch)
                bar.update(task, note=f"loss {sums['loss'].item() / (step + 1):.4f}")
            bar.advance(task)
        self._stop_if_not_finite(sums["loss"], step, batch)
        bar.remove_task(task)
        return {name: float(self.accelerator.reduce(value, "mean")) / (step + 1) for name, value in sums.items()}

    def _train_mode(self) -> None:
        self.model.train()
        if self.config.train.freeze_heads:
            # Frozen means that the statistics of batch normalisation stay, too.
            for head in _heads(self.accelerator.unwrap_model(self.model)):
                head.eval()

    def _step(self, batch: Sample) -> dict[str, torch.Tensor]:
        image, mask = self._augmented(batch)
        with self.accelerator.accumulate(self.model):
            with self.accelerator.autocast():
                prediction = self.model(image, recall=self._recall(batch))
            terms = self.objective(prediction, mask)
            self.accelerator.backward(terms["loss"])
            if self.accelerator.sync_gradients:
                self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.train.clip_norm)
            self.optimizer.step()
            self.optimizer.zero_grad()
        if self.accelerator.sync_gradients:
            self.schedule.step()
        return terms

    def _recall(self, batch: Sample) -> Recall | None:
        """Where a training sample is the same in every epoch, so are its dense maps."""
        settings = self.config.data
        if self.dense_cache is None or settings.augment != "none" or settings.resize != "stretch":
            return None
        return partial(self.dense_cache.recall, [("train", index) for index in batch.case_index.tolist()])

    def _augmented(self, batch: Sample) -> tuple[torch.Tensor, torch.Tensor]:
        draws = [
            draw(self.config.data.augment, random_generator(self.config.seed, self.at.epoch, index, 1))
            for index in batch.case_index.tolist()
        ]
        return apply(batch.image, batch.mask, draws)

    def _stop_if_not_finite(self, loss: torch.Tensor, step: int, batch: Sample) -> None:
        if not bool(torch.isfinite(loss)):
            cases = ", ".join(self.dataset.cases[index].id for index in batch.case_index.tolist())
            raise ConfigError(
                f"the loss is {loss.item()} in epoch {self.at.epoch + 1} by step {step + 1} (cases {cases}); "
                f"lower train.lr or use --set train.precision=no; finished epochs are kept in {self.folder.path}"
            )

    def _validate(self) -> float:
        """Mean Dice over cases and foreground classes, in the grid of the source images, without mirroring."""
        model = self.accelerator.unwrap_model(self.model).eval()
        window = Window(self.config.data.image_size, self.config.predict.overlap, False, self.config.predict.batch_size)
        with self.accelerator.split_between_processes(list(self.validation)) as cases:
            scores = [self._case_dice(model, case, window) for case in cases]
        # Not `gather_for_metrics`: it would cut the list by the remainder of the training loader.
        gathered = gather_object(scores)
        return sum(gathered) / len(gathered)

    def _case_dice(self, model: Model, case: Case, window: Window) -> float:
        if case.mask is None:
            raise DataError(f"{case.image}: has no mask, so it cannot validate")
        labels = segment_file(model, case.image, self.config.data, window, cache=self.dense_cache).labels
        truth = read_label_map(case.mask)
        return mean_dice(labels, truth, num_classes=self.num_classes)

    def _keep(self, row: dict[str, Any], history: list[dict[str, Any]]) -> None:
        """Save the weights if they are the best, then the history, then the state.

        The state comes last: whatever a kill leaves behind is newer than the state, and made again from it.
        """
        self.accelerator.wait_for_everyone()
        model = self.accelerator.unwrap_model(self.model)
        is_best = row.get("val_dice", -1.0) > self.at.best_dice
        if is_best:
            self.at.best_dice, self.at.best_epoch = row["val_dice"], row["epoch"]
        if not self.accelerator.is_main_process:
            return
        if is_best:
            self.folder.save_weights(model, lora=self.config.model.lora)
        self.folder.save_history(history)
        self.folder.save_state(self._state(model))
        losses = " ".join(
            f"{name} {row[name]:.4f}" for name in ("loss", "dice", "cross_entropy", "guide") if name in row
        )
        score = f" val Dice {row['val_dice']:.4f}{' best' if is_best else ''}" if "val_dice" in row else ""
        say(f"epoch {row['epoch']}/{self.config.train.epochs} {losses}{score} ({row['train_seconds']:.1f} s)")

    def _state(self, model: Model) -> dict[str, Any]:
        scaler = self.accelerator.scaler
        return {
            "model": own_tensors(model),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": scaler.state_dict() if scaler is not None else {},
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "epoch": self.at.epoch,
            "best_dice": self.at.best_dice,
            "best_epoch": self.at.best_epoch,
        }


def _dataset(cases: Sequence[Case], config: RunConfig, num_classes: int) -> SegmentationDataset:
    return SegmentationDataset(
        cases,
        num_classes=num_classes,
        image_size=config.data.image_size,
        resize=config.data.resize,
        foreground_crops=config.data.foreground_crops,
        cache_gb=config.data.cache_gb,
        seed=config.seed,
    )


def _settle_what_learns(model: Model, config: RunConfig) -> None:
    """Freeze the heads of a model whose adapter alone is trained, and let its backbone save memory."""
    if config.train.freeze_heads:
        for head in _heads(model):
            head.requires_grad_(False)
    if config.train.checkpointing and model.backbone is not None:
        # Importing peft takes seconds.
        from guidino_cli.models.lora import checkpoint_blocks

        checkpoint_blocks(model.backbone)


def _heads(model: Model) -> list[torch.nn.Module]:
    return [part for part in (model.segmenter, model.guide) if part is not None]


def _require_device(name: str | None, used: torch.device) -> None:
    """`ConfigError` if the named device is not there, or not the one that accelerate uses."""
    if name is None:
        return
    wanted = pick_device(name)
    if wanted.type != used.type or wanted.index not in {None, used.index}:
        raise ConfigError(
            f"--device {name}: training would use {used}; choose a card with CUDA_VISIBLE_DEVICES instead"
        )


def _precision(wanted: str, device: str | None) -> str:
    """Resolve "auto": bf16 or fp16 on CUDA, full precision on a CPU, where bf16 is slower without units for it."""
    without_cuda = device == "cpu" or not torch.cuda.is_available()
    if wanted == "fp16" and without_cuda:
        raise ConfigError("train.precision is fp16, which needs a CUDA device; use no, bf16 or auto")
    if wanted != "auto":
        return wanted
    if without_cuda:
        return "no"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
