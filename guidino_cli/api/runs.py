"""A trained run in Python: `load_run`, and masks, probabilities and features of an image or a volume."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from guidino_cli.api.settings import to_overrides
from guidino_cli.commands.prediction.volume_inputs import PICTURES, VOLUMES, find_volume_jobs
from guidino_cli.data.readers import find_reader, read
from guidino_cli.data.volumes.canonical import turn_back
from guidino_cli.data.volumes.grid import Volume
from guidino_cli.data.volumes.reading import read_volume
from guidino_cli.engine.devices import pick_device
from guidino_cli.engine.openvino.loading import pick_engine_device
from guidino_cli.engine.prediction.ensemble import LoadedEnsemble, load_ensemble
from guidino_cli.engine.prediction.predictor import DecodedImage, Segmentation
from guidino_cli.engine.prediction.volume_ensemble import LoadedVolumeEnsemble, load_volume_ensemble
from guidino_cli.engine.runs.facts import is_picture_run, is_volume_run
from guidino_cli.engine.runs.hub import find_runs
from guidino_cli.errors import ConfigError, DataError
from guidino_cli.models.composed import Model
from guidino_cli.options.prediction import PredictOptions
from guidino_cli.types import Geometry

AnyImage = np.ndarray | str | Path


class MaskAndGuide(NamedTuple):
    """Result of `TrainedRun.predict`: `mask, guide = run.predict(image)`.

    Attributes:
        mask: Class indices, (H, W) uint8 of an image; of a volume with the axes of its file, as nibabel reads them.
        guide: (G, H, W) or (G, *axes of the volume) float32 in [0, 1]: G maps, one, or one for each foreground class.
            None for a run without a guide.
    """

    mask: np.ndarray
    guide: np.ndarray | None


class TrainedRun:
    """One run, or an ensemble of runs whose probabilities are averaged; `load_run` makes it.

    Masks are those of `guidino predict` with the same settings, without post-processing.
    """

    def __init__(self, paths: Sequence[Path], loaded: LoadedEnsemble | LoadedVolumeEnsemble) -> None:
        self._paths, self._loaded = list(paths), loaded

    def __repr__(self) -> str:
        names = ", ".join(repr(str(path)) for path in self._paths)
        return f"TrainedRun({names}: {', '.join(self.classes)})"

    @property
    def classes(self) -> list[str]:
        """Names of the classes, the background first: a mask's values are indices into them."""
        return list(self._loaded.classes)

    @property
    def device(self) -> torch.device:
        """Device on which the run computes."""
        return self._loaded.predictor.members[0].model.mean.device

    @property
    def takes_volumes(self) -> bool:
        """Whether it was trained on volumes, or on images of more than three channels, and not on RGB images."""
        return isinstance(self._loaded, LoadedVolumeEnsemble)

    def predict(self, image: AnyImage) -> MaskAndGuide:
        """Segment one image or volume.

        Args:
            image: Path of an image file; or (H, W) grey or (H, W, 3) RGB uint8. A run on volumes takes paths only, of
                a NIfTI, NRRD or MetaImage file, of the first of several files ID_0000, ID_0001, ..., or of a folder
                with one DICOM series: without its header, a volume has neither voxel sizes nor sides.

        Raises:
            DataError: The file cannot be read, or the array is no such image.
        """
        if isinstance(self._loaded, LoadedVolumeEnsemble):
            return _predict_volume(self._loaded, image, self._paths[0])
        result = self._segment(image, keep_probabilities=False)
        return MaskAndGuide(result.labels, None if result.guide is None else result.guide.numpy())

    def predict_proba(self, image: AnyImage) -> np.ndarray:
        """Probabilities of the classes, (K, H, W) float32 that add up to 1; arguments and errors as for `predict`.

        Raises:
            ConfigError: The run was trained on volumes, whose probabilities fill gigabytes: use
                `guidino predict --save-probabilities`.
        """
        if isinstance(self._loaded, LoadedVolumeEnsemble):
            raise ConfigError(
                f"{self._paths[0]}: was trained on volumes; write their probabilities with "
                "`guidino predict --save-probabilities`"
            )
        probabilities = self._segment(image, keep_probabilities=True).probabilities
        assert probabilities is not None
        return np.asarray(probabilities.numpy())

    @torch.inference_mode()
    def features(self, image: AnyImage) -> np.ndarray:
        """Patch tokens of the frozen or tuned backbone, (D, h, w) float32, from which the run makes its guide.

        The image is resized as for prediction, without windows; h and w are its sides divided by the patch size and
        rounded up.

        Raises:
            ConfigError: The run has no backbone, or was trained on volumes.
            DataError: As for `predict`.
        """
        if isinstance(self._loaded, LoadedVolumeEnsemble):
            raise ConfigError(f"{self._paths[0]}: was trained on volumes; features are those of images")
        models = [(item, item.model) for item in self._loaded.predictor.members if isinstance(item.model, Model)]
        member, model = next(((item, model) for item, model in models if model.backbone is not None), (None, None))
        if member is None or model is None:
            reason = "has no backbone, hence no features" if models else "is compiled; features are those of its run"
            raise ConfigError(f"{self._paths[0]}: {reason}")
        maps = model.dense_maps(member.preprocess(_decode(image))[None])
        return maps[-1][0].float().cpu().numpy()

    def _segment(self, image: AnyImage, *, keep_probabilities: bool) -> Segmentation:
        assert isinstance(self._loaded, LoadedEnsemble)
        return self._loaded.predictor.segment([_decode(image)], keep_probabilities=keep_probabilities)[0]


def load_run(
    *runs: str | Path, device: str | None = None, settings: Mapping[str, Any] | None = None, offline: bool = False
) -> TrainedRun:
    """Load a run folder of `guidino train`, `fewshot` or `lora-tune`; of several, an ensemble.

    Args:
        runs: Run folders, folders of `guidino card`, or such models of the hub, "hf:ORGANISATION/NAME"; several must
            have the same classes, and are averaged.
        device: "cpu", "cuda", "cuda:0" or "mps"; by default the best available.
        settings: Settings, such as `{"predict.mirror": False}`, as `guidino predict --set`.
        offline: Never contact a model hub for the weights of a backbone.

    Raises:
        ConfigError: No run, unknown settings or such that change the model, runs that do not go together, or a device
            that does not exist.
        DataError: No run folder, or a damaged one.
        WeightsError: No trained weights, or another backbone than the run was trained with.
    """
    if not runs:
        raise ConfigError("load_run needs a run folder, such as load_run('runs/kvasir')")
    paths = find_runs([Path(run) for run in runs], offline=offline)
    load = load_volume_ensemble if is_volume_run(paths[0]) else load_ensemble
    loaded = load(
        paths,
        overrides=to_overrides(settings),
        offline=offline,
        device=pick_engine_device(paths, device) or pick_device(device),
    )
    return TrainedRun(paths, loaded)


def _decode(image: AnyImage) -> DecodedImage:
    """A file, or an array that is an image already."""
    if not isinstance(image, np.ndarray):
        decoded, geometry = read(Path(image))
        if (
            decoded.dtype != np.uint8
            or decoded.ndim != 3
            or decoded.shape[2] != 3
            or find_reader(Path(image)).is_volume
        ):
            found = f"{' x '.join(map(str, decoded.shape))} values"
            raise DataError(f"{image}: holds {found}, but the run takes images; cut volumes with `guidino slices`")
        return DecodedImage(decoded, geometry)
    if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)) or not image.size:
        raise DataError(
            f"an array {image.shape} of {image.dtype}; expected an image (H, W) or (H, W, 3) of uint8, 0 to 255"
        )
    pixels = np.repeat(image[:, :, None], 3, axis=2) if image.ndim == 2 else image
    return DecodedImage(np.ascontiguousarray(pixels), Geometry.of_pixels("array", (image.shape[0], image.shape[1])))


def _predict_volume(loaded: LoadedVolumeEnsemble, image: AnyImage, run: Path) -> MaskAndGuide:
    if isinstance(image, np.ndarray):
        raise DataError(
            f"an array {image.shape}, but {run} was trained on volumes, whose voxel sizes and sides are in their "
            "headers; give the path of a file"
        )
    kind = PICTURES if is_picture_run(run) else VOLUMES
    jobs = find_volume_jobs([Path(image)], loaded.channels, PredictOptions(), kind)
    if len(jobs) != 1 or jobs[0].problem:
        raise DataError(jobs[0].problem or f"{image}: holds {len(jobs)} volumes; give the path of one")
    volume = read_volume(jobs[0].sources, channels=len(loaded.channels), orientation=None, ignore_headers=False)
    found = loaded.predictor.segment(volume, keep_guide=loaded.has_guide)
    guide = None if found.guide is None else np.stack([_turn_back(item, volume) for item in found.guide])
    return MaskAndGuide(_turn_back(found.labels, volume), guide)


def _turn_back(values: np.ndarray, volume: Volume) -> np.ndarray:
    """(Z, Y, X) as the file has its axes; of a picture (H, W)."""
    if volume.grid.is_picture:
        return values[0]
    return np.ascontiguousarray(turn_back(values, volume.grid.to_canonical))
