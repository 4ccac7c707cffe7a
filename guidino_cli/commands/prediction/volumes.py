"""`guidino predict` for a run on volumes: each is read, segmented and written before the next one."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.progress import Progress, TaskID

from guidino_cli.commands.prediction.jobs import Shard, describe_unsafe_job, local_rank_device
from guidino_cli.commands.prediction.listed import Inputs, unique_inputs
from guidino_cli.commands.prediction.measuring import CaseMeasurement
from guidino_cli.commands.prediction.records import PredictionLog, describe_attempt
from guidino_cli.commands.prediction.session import (
    PredictionTask,
    refuse_options_of_volumes,
    require_values,
    run_prediction,
)
from guidino_cli.commands.prediction.volume_inputs import PICTURES, VOLUMES, FileKind, VolumeJob, volume_jobs_at
from guidino_cli.commands.prediction.volume_outputs import VolumeWriter
from guidino_cli.data.postprocess import PostprocessRule
from guidino_cli.data.volumes.dicom.datasets import import_dicom
from guidino_cli.data.volumes.preprocessing import describe_nonfinite
from guidino_cli.data.volumes.reading import read_volume
from guidino_cli.engine.devices import pick_device
from guidino_cli.engine.prediction.instances import InstancePredictor
from guidino_cli.engine.prediction.volume_ensemble import (
    LoadedVolumeEnsemble,
    load_volume_ensemble,
    require_matching_runs,
)
from guidino_cli.engine.runs.facts import is_picture_run
from guidino_cli.engine.runs.folder import RunFolder
from guidino_cli.errors import ConfigError, DataError, to_one_line
from guidino_cli.files import file_stem
from guidino_cli.options.prediction import PredictOptions
from guidino_cli.plots.planes import CONVENTION
from guidino_cli.progress import format_duration, is_terminal, log_info, pluralize, progress_bar
from guidino_cli.types import VolumeSource

if TYPE_CHECKING:
    from PIL import Image

_LOG_EVERY_SECONDS = 15.0


def run_volumes(run_path: Path, inputs: Inputs, out: Path, options: PredictOptions) -> None:
    """Segment volumes and write one mask each, in the grid and under the name of its source.

    Args:
        run_path: Run folder.
        inputs: Volumes, folders of them, DICOM folders, or prepared data folders.
        out: Folder of the masks.
        options: See their help texts.

    Raises:
        ConfigError: Options that contradict each other, the runs or the masks in `out`, or a folder in use.
        DataError: No volumes, or none that could be read.
        PartialError: Some volumes could not be read; the others are predicted.
        ResourceError: Out of memory or disk space; finished masks are kept.
    """
    require_values(options)
    if options.format is not None:
        raise ConfigError(
            f"--format is for images, but {run_path} was trained on volumes or on pictures of several channels; leave "
            "it out"
        )
    runs = [run_path, *(options.ensemble or ())]
    if RunFolder(run_path).config().model.target == "affinities":
        _refuse_options_of_classes(options)
    kind = PICTURES if is_picture_run(run_path) else VOLUMES
    if kind is PICTURES:
        refuse_options_of_volumes(options)
        if options.overlay:
            raise ConfigError("--overlay draws pictures of red, green and blue, and volumes; leave it out")
    run_prediction(_VolumeTask(runs, inputs, options, kind), run_path, inputs.folders, out)


class _VolumeTask(PredictionTask[VolumeJob, LoadedVolumeEnsemble]):
    """Predicts volumes; see `PredictionTask`."""

    # A volume takes seconds to read.
    pictures = 6

    def __init__(self, runs: Sequence[Path], inputs: Inputs, options: PredictOptions, kind: FileKind) -> None:
        self.runs, self.inputs, self.options, self.kind = runs, inputs, options, kind
        self.noun = kind.noun
        self.picture_notes = () if kind is PICTURES else (CONVENTION,)
        self._jobs: dict[str, VolumeJob] = {}

    def find_jobs(self) -> Sequence[VolumeJob]:
        channels = require_matching_runs(self.runs)

        def find(place: Path) -> Iterator[VolumeJob]:
            return volume_jobs_at(place, channels, self.options, self.kind)

        def fail(place: Path, problem: str) -> VolumeJob:
            return VolumeJob(file_stem(place), str(place), (VolumeSource(place),), problem)

        jobs = unique_inputs(self.inputs, find, fail, suffix=self.kind.mask_suffix)
        if self.options.dicom_seg:
            _require_dicom(jobs)
        self._jobs = {job.name: job for job in jobs}
        return jobs

    def load(self) -> LoadedVolumeEnsemble:
        loaded = load_volume_ensemble(
            self.runs,
            overrides=tuple(self.options.overrides or ()),
            offline=self.options.offline,
            device=pick_device(local_rank_device(self.options.device)),
        )
        if self.options.save_probabilities:
            loaded.predictor.require_one_grid()
        return loaded

    def make_writer(self, out: Path, loaded: LoadedVolumeEnsemble, rules: dict[int, PostprocessRule]) -> VolumeWriter:
        shown = loaded.predictor.members[0].preprocessing.intensities[0].for_pictures
        self._onto = loaded.predictor.members[0].preprocessing.onto
        return VolumeWriter(out, self.options, rules, loaded.classes, self.kind.mask_suffix, intensity=shown)

    def describe_start(self, count: int, own: Sequence[VolumeJob], shard: Shard, loaded: LoadedVolumeEnsemble) -> str:
        """The number of volumes, and how they are covered."""
        members = loaded.predictor.members
        prefix = f"{len(own)} of " if shard.count > 1 else ""
        ways = " + ".join(member.describe() for member in members)
        hint = "" if members[0].window.flips == 1 else "; --set predict.mirror=false takes one pass instead of "
        hint += f"{members[0].window.flips}" if hint else ""
        if isinstance(loaded.predictor, InstancePredictor):
            how = loaded.predictor.labelling
            hint = f"; instances by {how.method}, threshold {how.threshold:g}"
        return f"{prefix}{pluralize(count, self.noun)} on {members[0].model.mean.device}; {ways}{hint}"

    def draw(self, name: str, image: str, writer: VolumeWriter) -> "Image.Image":
        job = self._jobs.get(name)
        if job is None:
            # An earlier call made it from other arguments, and its channels are not known.
            raise DataError(f"{image}: is not among the volumes of this call")
        options = self.options
        volume = read_volume(
            job.sources, orientation=options.orientation, ignore_headers=options.ignore_headers, onto=self._onto
        )
        return writer.draw_volume(job, volume)

    def predict(
        self, own: Sequence[VolumeJob], loaded: LoadedVolumeEnsemble, writer: VolumeWriter, log: PredictionLog
    ) -> None:
        if self.options.save_probabilities:
            log_info(
                "probabilities have axes (class, z, y, x) and the grid of the prepared data (from the feet up, from "
                "front to back, from right to left); masks and guides have the grid of the source"
            )
        if not isinstance(loaded.predictor, InstancePredictor):
            writer.write_class_names(loaded.channels)
        _predict_all(own, loaded, writer, log, self.options)


def _refuse_options_of_classes(options: PredictOptions) -> None:
    """`ConfigError` for options that mean nothing for instances."""
    given = {
        "--save-guide": options.save_guide,
        "--save-probabilities": options.save_probabilities,
        "--overlay": options.overlay,
        "--dicom-seg": options.dicom_seg,
        "--values 255": options.values == "255",
        f"--post {options.post}": options.post != "none",
        "--risk": options.risk,
    }
    names = [name for name, is_given in given.items() if is_given]
    if names:
        raise ConfigError(
            f"{names[0]} is for classes, but the run makes instances; leave it out (--set predict.min_size=N removes "
            "small ones, predict.threshold merges more or fewer)"
        )


def _require_dicom(jobs: Sequence[VolumeJob]) -> None:
    """`ConfigError` for volumes that no DICOM SEG can refer to, `DependencyError` without highdicom."""
    other = next((job for job in jobs if job.sources[0].series is None), None)
    if other is not None:
        raise ConfigError(f"--dicom-seg refers to the files of a DICOM series, but {other.image} is none; leave it out")
    import_dicom("highdicom")


def _predict_all(
    jobs: Sequence[VolumeJob],
    loaded: LoadedVolumeEnsemble,
    output: VolumeWriter,
    log: PredictionLog,
    options: PredictOptions,
) -> None:
    """Predict and write all volumes; one is in memory at a time."""
    with _report_progress(len(jobs)) as progress:
        for number, job in enumerate(jobs):
            progress.begin(number)
            if problem := job.problem or describe_unsafe_job(job):
                print(f"guidino: {to_one_line(problem)}", file=sys.stderr)
                facts = {"mask": None, "status": "error", "message": problem, "tried": None}
                log.add(_record(job, output, time.perf_counter()) | facts)
            elif options.skip_existing and output.is_written(job):
                log.counts.skipped += 1
            elif (failure := log.find_failure(job.image, partial(_describe_attempt, job, options))) is not None:
                print(f"guidino: not tried again, its file is unchanged: {failure['message']}", file=sys.stderr)
                log.repeat_failure(failure)
            else:
                _predict(job, loaded, output, log, options, progress)


def _predict(
    job: VolumeJob,
    loaded: LoadedVolumeEnsemble,
    output: VolumeWriter,
    log: PredictionLog,
    options: PredictOptions,
    progress: "_Progress",
) -> None:
    started = time.perf_counter()
    try:
        volume = read_volume(
            job.sources,
            channels=len(loaded.channels),
            orientation=options.orientation,
            ignore_headers=options.ignore_headers,
            onto=loaded.predictor.members[0].preprocessing.onto,
        )
        notes = [*volume.notes, *describe_nonfinite(volume.values)]
        for note in notes:
            log_info(f"{job.image}: {note}")
        axes = loaded.predictor.axes
        size = [volume.grid.shape[axis] for axis in axes]
        measured = CaseMeasurement(job.name, len(loaded.classes), output.risk, size)
        result = loaded.predictor.segment(
            volume,
            keep_guide=options.save_guide,
            keep_probabilities=options.save_probabilities,
            on_progress=progress.show_slices,
            on_part=measured.add,
        )
        regions = [item.transpose(np.argsort(axes)) for item in measured.regions]
        has_foreground = output.write_volume(job, volume, result, regions)
    except DataError as error:
        print(f"guidino: {error}", file=sys.stderr)
        if not options.skip_existing:
            # A mask of the volume that had this name before would be taken for this one's.
            output.remove(job)
        tried = _describe_attempt(job, options)
        facts = {"mask": None, "status": "error", "message": str(error), "tried": tried}
        log.add(_record(job, output, started) | facts)
        return
    more: dict[str, Any] = {"shape": list(volume.grid.shape)}
    if not isinstance(loaded.predictor, InstancePredictor):
        more["quality"] = measured.record(has_foreground=has_foreground)
    log.add(_record(job, output, started) | more | ({"notes": notes} if notes else {}))


def _describe_attempt(job: VolumeJob, options: PredictOptions) -> dict[str, Any] | None:
    """Everything that decides whether a volume can be read: its files and the options for reading."""
    attempt = describe_attempt(*(source.path for source in job.sources))
    reading = {"orientation": options.orientation, "ignore_headers": options.ignore_headers}
    return None if attempt is None else attempt | reading


def _record(job: VolumeJob, output: VolumeWriter, started: float) -> dict[str, Any]:
    seconds = round(time.perf_counter() - started, 3)
    return {"image": job.image, "mask": f"{job.name}{output.suffix}", "status": "ok", "seconds": seconds}


class _Progress:
    """A bar that counts volumes and slices, or a plain line from time to time where stderr is not a terminal."""

    def __init__(self, total: int, bar: Progress | None, task: TaskID | None) -> None:
        self._total, self._bar, self._task = total, bar, task
        self._number = 0
        self._started = self._logged = time.monotonic()

    def begin(self, number: int) -> None:
        """Go on to the next volume."""
        self._number = number
        self._show(number, "")

    def show_slices(self, done: int, total: int) -> None:
        """Show how much of the volume is done."""
        finished = self._number + done / total
        self._show(finished, f"slice {done}/{total}")
        now = time.monotonic()
        if self._bar is None and finished < self._total and now - self._logged >= _LOG_EVERY_SECONDS:
            remaining = (now - self._started) / finished * (self._total - finished)
            place = f"volume {self._number + 1}/{self._total}, slice {done}/{total}"
            log_info(f"predict {place}, about {format_duration(remaining)} left")
            self._logged = now

    def _show(self, finished: float, note: str) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=finished, note=note)


@contextmanager
def _report_progress(total: int) -> Iterator[_Progress]:
    if not is_terminal():
        yield _Progress(total, None, None)
        return
    with progress_bar() as bar:
        yield _Progress(total, bar, bar.add_task("predict volumes", total=total, note=""))
