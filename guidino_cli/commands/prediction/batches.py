"""From images to written masks: reading ahead, sharing forward passes, and writing in the background."""

import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

from guidino_cli.commands.prediction.files import MaskWriter, PredictionJob
from guidino_cli.commands.prediction.records import PredictionLog
from guidino_cli.data.readers import open_regions, read
from guidino_cli.data.regions import RegionReader, read_size
from guidino_cli.engine.prediction.background import BackgroundWorker, prefetch
from guidino_cli.engine.prediction.ensemble import LoadedEnsemble
from guidino_cli.engine.prediction.predictor import DecodedImage
from guidino_cli.errors import DataError
from guidino_cli.progress import track


def predict_all(
    jobs: list[PredictionJob],
    loaded: LoadedEnsemble,
    output: MaskWriter,
    records: PredictionLog,
    *,
    skip_existing: bool,
) -> None:
    """Predict and write all images; one thread reads ahead, another writes."""

    def pending() -> Iterator[PredictionJob]:
        for job in track(jobs, total=len(jobs), description="predict"):
            if skip_existing and output.is_written(job):
                records.counts.skipped += 1
            else:
                yield job

    with BackgroundWorker() as writer:
        batch = _Batch(loaded, output, records, writer)
        for job, reading in prefetch(pending(), partial(_read, loaded=loaded)):
            batch.take(job, reading)
        batch.finish()


def _read(job: PredictionJob, *, loaded: LoadedEnsemble) -> DecodedImage | RegionReader:
    """Decode an image; of one too large to be predicted as a whole, only what its windows need."""
    path = Path(job.image)
    return open_regions(path) if loaded.needs_strips(read_size(path)) else DecodedImage(*read(path))


class _Batch:
    """Images of one window wait for each other and go through the network together; others go at once."""

    def __init__(
        self, loaded: LoadedEnsemble, output: MaskWriter, records: PredictionLog, writer: BackgroundWorker
    ) -> None:
        self.loaded, self.output, self.records, self.writer = loaded, output, records, writer
        self.waiting: list[tuple[PredictionJob, DecodedImage]] = []

    def take(self, job: PredictionJob, reading: "Future[DecodedImage | RegionReader]") -> None:
        """The next image."""
        started = time.perf_counter()
        try:
            image = reading.result()
            if isinstance(image, RegionReader):
                self.output.require_only_mask(image)
                rows = self.loaded.predictor.label_rows(image)
                self.output.write_rows(job, image.geometry.size_hw, rows)
                self._record(job, started, 1)
                return
        except DataError as error:
            self._failed(job, error, started)
            return
        self.waiting.append((job, image))
        alone = not self.loaded.predictor.is_one_window(image.geometry.size_hw)
        if alone or len(self.waiting) >= self.loaded.batch_size:
            self.finish()

    def finish(self) -> None:
        """Predict what waits."""
        waiting, self.waiting = self.waiting, []
        if not waiting:
            return
        started = time.perf_counter()
        results = self.loaded.predictor.segment([picture for _, picture in waiting])
        for (job, _), result in zip(waiting, results, strict=True):
            record = self._line(job, started, len(waiting))
            self.writer.submit(partial(self._write, job, result, record))

    def _write(self, job: PredictionJob, result: Any, record: dict[str, Any]) -> None:
        self.output.write(job, result)
        self.records.add(record)

    def _record(self, job: PredictionJob, started: float, images: int) -> None:
        record = self._line(job, started, images)
        self.writer.submit(lambda: self.records.add(record))

    def _failed(self, job: PredictionJob, error: DataError, started: float) -> None:
        record = self._line(job, started, 1) | {"mask": None, "status": "error", "message": str(error)}
        print(f"guidino: {error}", file=sys.stderr)
        # All lines come from one thread, so that none is torn.
        self.writer.submit(lambda: self.records.add(record))

    def _line(self, job: PredictionJob, started: float, images: int) -> dict[str, Any]:
        seconds = round((time.perf_counter() - started) / images, 3)
        return {"image": job.image, "mask": f"{job.name}.png", "status": "ok", "seconds": seconds}
