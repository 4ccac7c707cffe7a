"""`guidino predict`: from a run and images, or volumes, to masks and, optionally, guides and probabilities."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from guidino_cli.commands.prediction.batches import predict_all
from guidino_cli.commands.prediction.jobs import PredictionJob, Shard, jobs_at, local_rank_device
from guidino_cli.commands.prediction.label_files import require_format, write_label_files
from guidino_cli.commands.prediction.listed import Inputs, read_inputs, unique_inputs
from guidino_cli.commands.prediction.mask_files import MaskWriter
from guidino_cli.commands.prediction.records import PredictionLog
from guidino_cli.commands.prediction.review import PICTURE_SIDE
from guidino_cli.commands.prediction.session import (
    PredictionTask,
    refuse_options_of_volumes,
    require_values,
    run_prediction,
)
from guidino_cli.data.postprocess import PostprocessRule
from guidino_cli.data.readers import read
from guidino_cli.data.regions import read_size
from guidino_cli.engine.devices import pick_device
from guidino_cli.engine.openvino.loading import pick_engine_device
from guidino_cli.engine.prediction.ensemble import LoadedEnsemble, load_ensemble
from guidino_cli.engine.runs.facts import is_volume_run
from guidino_cli.errors import DataError
from guidino_cli.options.prediction import PredictOptions
from guidino_cli.progress import pluralize

if TYPE_CHECKING:
    from PIL import Image


def run(run_path: Path, images: Sequence[Path], out: Path, options: PredictOptions) -> None:
    """Segment images or volumes and write one mask each, in the grid and under the name of its source.

    Args:
        run_path: Run folder.
        images: Images or volumes, folders of them, DICOM folders, or prepared data folders; those that
            `options.list_file` names are added.
        out: Folder of the masks.
        options: See their help texts.

    Raises:
        ConfigError: Options that contradict each other, the runs or the masks in `out`, or a folder in use.
        DataError: No images, none that could be read, or a list without names.
        PartialError: Some images could not be read; the others are predicted.
        ResourceError: Out of memory or disk space; finished masks are kept.
    """
    inputs = read_inputs(images, options.list_file)
    if is_volume_run(run_path):
        # Readers of volumes are imported for volumes only.
        from guidino_cli.commands.prediction.volumes import run_volumes

        run_volumes(run_path, inputs, out, options)
        return
    require_values(options)
    require_format(options)
    refuse_options_of_volumes(options)
    run_prediction(_ImageTask([run_path, *(options.ensemble or ())], inputs, options), run_path, inputs.folders, out)


class _ImageTask(PredictionTask[PredictionJob, LoadedEnsemble]):
    """Predicts images; see `PredictionTask`."""

    noun = "image"

    def __init__(self, runs: Sequence[Path], inputs: Inputs, options: PredictOptions) -> None:
        self.runs, self.inputs, self.options = runs, inputs, options

    def find_jobs(self) -> Sequence[PredictionJob]:
        def find(place: Path) -> Iterator[PredictionJob]:
            return jobs_at(place, self.options.split, recursive=self.options.recursive)

        def fail(place: Path, problem: str) -> PredictionJob:
            return PredictionJob(place.stem, str(place), problem)

        return unique_inputs(self.inputs, find, fail, suffix=".png")

    def load(self) -> LoadedEnsemble:
        return load_ensemble(
            self.runs,
            overrides=tuple(self.options.overrides or ()),
            offline=self.options.offline,
            device=pick_engine_device(self.runs, self.options.device)
            or pick_device(local_rank_device(self.options.device)),
        )

    def make_writer(self, out: Path, loaded: LoadedEnsemble, rules: dict[int, PostprocessRule]) -> MaskWriter:
        return MaskWriter(out, self.options, rules, loaded.classes)

    def describe_start(self, count: int, own: Sequence[PredictionJob], shard: Shard, loaded: LoadedEnsemble) -> str:
        """The number of images, and the forward passes of the first one."""
        members = loaded.predictor.members
        prefix = f"{len(own)} of " if shard.count > 1 else ""
        precision = "" if members[0].window.precision == "no" else f" in {members[0].window.precision}"
        precision += f" ({members[0].engine})" if members[0].engine else ""
        line = f"{prefix}{pluralize(count, self.noun)} on {members[0].model.mean.device}{precision}"
        try:
            size_hw = read_size(Path(own[0].image)) if own else None
        except DataError:
            # It will be reported among the failed images.
            size_hw = None
        if size_hw is None:
            return line
        costs = [(member.count_windows(size_hw), member.window.flips, member.window.size) for member in members]
        terms = " + ".join(f"{windows} x {flips} of {size} px" for windows, flips, size in costs)
        passes = sum(windows * flips for windows, flips, _ in costs)
        flips = members[0].window.flips
        hint = f"; --set predict.mirror=false takes one pass instead of {flips}" if flips > 1 else ""
        size = f"{size_hw[1]}x{size_hw[0]} px"
        return f"{line}; {size}: {pluralize(passes, 'pass', 'passes')} (windows x flips: {terms}){hint}"

    def draw(self, name: str, image: str, writer: MaskWriter) -> "Image.Image":
        from PIL import Image

        from guidino_cli.plots.contact_sheet import draw_outlined_thumbnail

        pixels, _ = read(Path(image))
        labels = writer.read_mask(PredictionJob(name, image))
        return Image.fromarray(draw_outlined_thumbnail(pixels, labels, size=PICTURE_SIDE))

    def predict(
        self, own: Sequence[PredictionJob], loaded: LoadedEnsemble, writer: MaskWriter, log: PredictionLog
    ) -> None:
        predict_all(own, loaded, writer, log, skip_existing=self.options.skip_existing)
        if self.options.format is not None:
            usable = [job for job in own if not job.problem]
            write_label_files(writer.out, usable, loaded.classes, self.options)
