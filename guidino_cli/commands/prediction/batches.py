"""From images to written masks: reading ahead, sharing forward passes, and writing in the background."""

import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

from guidino_cli.commands.prediction.jobs import PredictionJob, describe_unsafe_job
from guidino_cli.commands.prediction.mask_files import MaskWriter
from guidino_cli.commands.prediction.measuring import CaseMeasurement
from guidino_cli.commands.prediction.records import PredictionLog, describe_attempt
from guidino_cli.data.readers import open_regions, read
from guidino_cli.data.regions import RegionReader, read_size
from guidino_cli.engine.prediction.background import BackgroundWorker, prefetch
from guidino_cli.engine.prediction.ensemble import LoadedEnsemble
from guidino_cli.engine.prediction.predictor import DecodedImage, Segmentation
from guidino_cli.errors import DataError, to_one_line
from guidino_cli.progress import log_warning, track


def predict_all(
    jobs: Sequence[PredictionJob],
    loaded: LoadedEnsemble,
    output: MaskWriter,
    log: PredictionLog,
    *,
    skip_existing: bool,
) -> None:
    """Predict and write all images; one thread reads ahead, another writes."""

    with BackgroundWorker() as writer:
        batcher = _Batcher(loaded, output, log, writer, keeps_masks=skip_existing)

        def pending() -> Iterator[PredictionJob]:
            for job in track(jobs, total=len(jobs), description="predict"):
                if problem := job.problem or describe_unsafe_job(job):
                    batcher.refuse(job, problem)
                elif skip_existing and output.is_written(job):
                    log.counts.skipped += 1
                elif (failure := log.find_failure(job.image, partial(describe_attempt, Path(job.image)))) is not None:
                    batcher.repeat_failure(failure)
                else:
                    yield job

        for job, reading in prefetch(pending(), partial(_read, loaded=loaded)):
            batcher.add(job, reading)
        batcher.flush()
    if (warning := loaded.shapes.warning) is not None:
        log_warning(warning)


def _read(job: PredictionJob, *, loaded: LoadedEnsemble) -> DecodedImage | RegionReader:
    """Decode an image, or open the regions of one that is too large to be predicted as a whole."""
    path = Path(job.image)
    return open_regions(path) if loaded.needs_strips(read_size(path)) else DecodedImage(*read(path))


class _Batcher:
    """Collects images of one window until they fill a batch; predicts other images at once."""

    def __init__(
        self,
        loaded: LoadedEnsemble,
        output: MaskWriter,
        log: PredictionLog,
        writer: BackgroundWorker,
        *,
        keeps_masks: bool,
    ) -> None:
        self.loaded, self.output, self.log, self.writer = loaded, output, log, writer
        self.keeps_masks = keeps_masks
        self.waiting: list[tuple[PredictionJob, DecodedImage]] = []

    def add(self, job: PredictionJob, reading: "Future[DecodedImage | RegionReader]") -> None:
        """Add the next image."""
        started = time.perf_counter()
        try:
            image = reading.result()
        except DataError as error:
            self._log_failure(job, started, error, tried=describe_attempt(Path(job.image)))
            return
        self.loaded.shapes.add(image.geometry.size_hw)
        if isinstance(image, RegionReader):
            self._predict_in_strips(job, image, started)
            return
        self.waiting.append((job, image))
        is_alone = not self.loaded.predictor.is_one_window(image.geometry.size_hw)
        if is_alone or len(self.waiting) >= self.loaded.batch_size:
            self.flush()

    def refuse(self, job: PredictionJob, message: str) -> None:
        """List an image whose outputs cannot be written under its name."""
        print(f"guidino: {to_one_line(message)}", file=sys.stderr)
        facts = {"mask": None, "status": "error", "message": message, "tried": None}
        self._log(self._record(job, time.perf_counter()) | facts)

    def repeat_failure(self, record: dict[str, Any]) -> None:
        """List an image that an earlier call could not read."""
        print(f"guidino: not tried again, its file is unchanged: {record['message']}", file=sys.stderr)
        self.writer.submit(lambda: self.log.repeat_failure(record))

    def _predict_in_strips(self, job: PredictionJob, image: RegionReader, started: float) -> None:
        try:
            self.output.require_only_mask(image)
            size_hw = image.geometry.size_hw
            measured = CaseMeasurement(job.name, len(self.loaded.classes), None, size_hw)
            rows = self.loaded.predictor.label_rows(image, on_part=measured.add)
            self.output.write_rows(job, size_hw, rows)
        except DataError as error:
            # Other options may help: it is tried again.
            self._log_failure(job, started, error, tried=None)
            return
        self._log(self._record(job, started) | {"quality": measured.record(has_foreground=True)})

    def flush(self) -> None:
        """Predict the waiting images."""
        waiting, self.waiting = self.waiting, []
        if not waiting:
            return
        started = time.perf_counter()
        options, classes, risk = self.output.options, len(self.loaded.classes), self.output.risk
        measured = [CaseMeasurement(job.name, classes, risk, image.geometry.size_hw) for job, image in waiting]
        results = self.loaded.predictor.segment(
            [image for _, image in waiting],
            keep_probabilities=options.save_probabilities,
            keep_guide=options.save_guide,
            on_parts=[item.add for item in measured],
        )
        for (job, _), result, case in zip(waiting, results, measured, strict=True):
            record = self._record(job, started, images=len(waiting))
            self.writer.submit(partial(self._write, job, result, case, record))

    def _write(
        self, job: PredictionJob, result: Segmentation, measured: CaseMeasurement, record: dict[str, Any]
    ) -> None:
        has_foreground = self.output.write(job, result, measured.regions)
        self.log.add(record | {"quality": measured.record(has_foreground=has_foreground)})

    def _log_failure(
        self, job: PredictionJob, started: float, error: DataError, *, tried: dict[str, Any] | None
    ) -> None:
        print(f"guidino: {error}", file=sys.stderr)
        if not self.keeps_masks:
            # A mask of the image that had this name before would be taken for this one's.
            self.output.remove(job)
        facts = {"mask": None, "status": "error", "message": str(error), "tried": tried}
        self._log(self._record(job, started) | facts)

    def _log(self, record: dict[str, Any]) -> None:
        # All records are written by one thread, so that no line is interrupted by another.
        self.writer.submit(lambda: self.log.add(record))

    def _record(self, job: PredictionJob, started: float, *, images: int = 1) -> dict[str, Any]:
        seconds = round((time.perf_counter() - started) / images, 3)
        return {"image": job.image, "mask": f"{job.name}.png", "status": "ok", "seconds": seconds}
