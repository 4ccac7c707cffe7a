"""Validation cases of a run with the runs that predict them, for commands that fit something on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from guidino_cli.data.cases import read_truth
from guidino_cli.data.file_records import require_unchanged_files
from guidino_cli.data.manifest import MANIFEST_NAME, Manifest, ignore_label, load_manifest
from guidino_cli.data.readers import open_regions, read
from guidino_cli.data.regions import read_size
from guidino_cli.data.volumes.grid import Volume
from guidino_cli.data.volumes.reading import read_volume, read_volume_labels
from guidino_cli.engine.devices import pick_device
from guidino_cli.engine.openvino.loading import pick_engine_device
from guidino_cli.engine.prediction.ensemble import LoadedEnsemble, load_ensemble
from guidino_cli.engine.prediction.predictor import DecodedImage
from guidino_cli.engine.prediction.volume_ensemble import LoadedVolumeEnsemble, load_volume_ensemble
from guidino_cli.engine.runs.facts import is_volume_run
from guidino_cli.engine.runs.folder import RunFolder
from guidino_cli.errors import DataError
from guidino_cli.options.prediction import TunePostOptions, TuneRiskOptions
from guidino_cli.types import Case, VolumeSource, width_by_height


@dataclass(frozen=True)
class ValidationCases:
    """Labelled validation cases of a run.

    Attributes:
        root: Prepared folder that holds them.
        manifest: Its content.
        cases: Those with a mask.
    """

    root: Path
    manifest: Manifest
    cases: list[Case]

    @property
    def manifest_path(self) -> Path:
        """The file that lists them."""
        return self.root if self.root.name == MANIFEST_NAME else self.root / MANIFEST_NAME


def find_validation_cases(run_path: Path, data: Path | None) -> ValidationCases:
    """The validation cases of `data`, or of the run's own data.

    Raises:
        DataError: No data folder or no labelled validation cases; changed files; images for a run on volumes.
    """
    config = RunFolder(run_path).config()
    root = data or (Path(config.data.root) if config.data.root else None)
    if root is None:
        raise DataError(f"{run_path}: names no data folder; give it with --data")
    manifest = load_manifest(root)
    if manifest.ignore_label is None:
        # What --data records wins over the setting, which was for the run's own data.
        manifest = ignore_label(manifest, config.data.ignore_label, source=f"{run_path}: data.ignore_label")
    cases = [case for case in manifest.select("val", config.data.fold) if case.mask is not None]
    if not cases:
        raise DataError(f"{root}: no labelled validation cases; prepare with a validation split")
    require_unchanged_files(cases, root)
    is_volumes = is_volume_run(run_path)
    if manifest.is_volumes != is_volumes:
        kinds = ("volumes", "images") if is_volumes else ("images", "volumes")
        raise DataError(f"{root}: holds {kinds[1]}, but the run was trained on {kinds[0]}; give --data with {kinds[0]}")
    return ValidationCases(root, manifest, cases)


def load_runs(
    run_path: Path, options: TunePostOptions | TuneRiskOptions, validation: ValidationCases
) -> LoadedEnsemble | LoadedVolumeEnsemble:
    """The run and those that are averaged with it.

    Raises:
        DataError: The cases have other classes.
        UserError: See `load_ensemble` and `load_volume_ensemble`.
    """
    runs = [run_path, *(options.ensemble or ())]
    overrides = tuple(options.overrides or ())
    device = pick_engine_device(runs, options.device) or pick_device(options.device)
    load = load_volume_ensemble if validation.manifest.is_volumes else load_ensemble
    loaded = load(runs, overrides=overrides, offline=options.offline, device=device)
    if validation.manifest.classes != loaded.classes:
        raise DataError(
            f"{validation.root}: has {', '.join(validation.manifest.classes)}, but the run was trained for "
            f"{', '.join(loaded.classes)}; give --data with the same classes"
        )
    return loaded


def segment_validation_case(loaded: LoadedEnsemble | LoadedVolumeEnsemble, case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and true class indices of a labelled case, both background where it is ignored.

    Raises:
        DataError: A file cannot be read, or image and mask differ in size.
    """
    if isinstance(loaded, LoadedVolumeEnsemble):
        onto = loaded.predictor.members[0].preprocessing.onto
        volume, truth, ignored = read_labelled_volume(case, channels=len(loaded.channels), onto=onto)
        labels = loaded.predictor.segment(volume).labels
    else:
        labels, (truth, ignored) = _segment_image(loaded, case.image), read_truth(case)
    require_same_size(case, truth.shape, labels.shape)
    return labels if ignored is None else np.where(ignored, 0, labels), truth


def _segment_image(loaded: LoadedEnsemble, image: Path) -> np.ndarray:
    """(H, W) uint8; of a large image, only the labels are held as a whole."""
    if loaded.needs_strips(read_size(image)):
        return np.concatenate(list(loaded.predictor.label_rows(open_regions(image))))
    decoded = DecodedImage(*read(image))
    return loaded.predictor.segment([decoded], keep_probabilities=False, keep_guide=False)[0].labels


def read_labelled_volume(case: Case, *, channels: int, onto: int = 0) -> tuple[Volume, np.ndarray, np.ndarray | None]:
    """The volume, its labels (Z, Y, X) and its ignored voxels, as `read_truth` for an image.

    Raises:
        DataError: One of them cannot be read.
    """
    if case.volume is None or case.mask is None:
        raise ValueError(f"case {case.id} is no labelled volume")
    volume = read_volume(case.volume.sources, channels=channels, onto=onto)
    truth = read_volume_labels(VolumeSource(case.mask), volume.grid)
    ignored = None if case.ignore_label is None else truth == case.ignore_label
    return volume, truth if ignored is None else np.where(ignored, 0, truth), ignored


def require_same_size(case: Case, truth: Sequence[int], image: Sequence[int]) -> None:
    """`DataError` for a mask of another size than its image."""
    if tuple(truth) != tuple(image):
        found, wanted = width_by_height(truth), width_by_height(image)
        raise DataError(
            f"{case.mask}: is {found} px (width x height), its image {case.image} is {wanted}; correct one, "
            "prepare again"
        )
