"""Output files of each volume: labels and guide in its source's grid, probabilities on the stored grid, DICOM SEG."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO

import numpy as np
from PIL import Image

from guidino_cli.commands.prediction.jobs import Job
from guidino_cli.commands.prediction.mask_files import MaskWriter
from guidino_cli.commands.prediction.review import PICTURE_SIDE
from guidino_cli.commands.prediction.volume_inputs import VOLUMES, VolumeJob
from guidino_cli.data.postprocess import postprocess_labels
from guidino_cli.data.volumes.canonical import turn_back
from guidino_cli.data.volumes.dicom.segment_writing import write_segmentation
from guidino_cli.data.volumes.dicom.series import choose_series
from guidino_cli.data.volumes.grid import Volume
from guidino_cli.data.volumes.intensities import Intensity, measure_channel
from guidino_cli.data.volumes.reading import read_volume_labels
from guidino_cli.data.volumes.writing import write_volume_labels, write_volume_map
from guidino_cli.engine.prediction.volumes import VolumeSegmentation
from guidino_cli.files import write_atomically, write_text
from guidino_cli.plots.contact_sheet import draw_outlined_thumbnail
from guidino_cli.plots.volumes import VolumeView, view_volume, volume_overlay
from guidino_cli.types import VolumeSource

CLASSES_FILE = "dataset.json"


@dataclass(frozen=True)
class VolumeWriter(MaskWriter):
    """Writes masks of volumes and the outputs that come with them; see `MaskWriter`.

    Attributes:
        intensity: Grey values of the first channel in overlays.
    """

    suffix: str = VOLUMES.mask_suffix
    intensity: Intensity = field(default_factory=lambda: Intensity("percentile"))

    def write_class_names(self, channels: Sequence[str]) -> None:
        """Write dataset.json as nnU-Net's, so that other programs know what the numbers in the masks mean."""
        values = [0, 255] if self._factor == 255 else list(range(len(self.classes)))
        content = {
            "channel_names": {str(number): name for number, name in enumerate(channels)},
            "labels": dict(zip(self.classes, values, strict=True)),
            "file_ending": self.suffix,
        }
        write_text(self.out / CLASSES_FILE, json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    def write_volume(
        self, job: VolumeJob, volume: Volume, result: VolumeSegmentation, regions: Sequence[np.ndarray] = ()
    ) -> bool:
        """Write the outputs of a volume; the mask comes last, so that its presence means that all are there.

        Args:
            job: Names them.
            volume: As it was read.
            result: Result of the network.
            regions: (Z, Y, X) of each of `risk.regions`, 0 and 1.

        Returns:
            Whether the mask has any foreground.
        """
        labels = postprocess_labels(result.labels, self.rules)
        if self.options.save_guide and result.guide is not None:
            self._write_guide(job, result.guide, partial(write_volume_map, grid=volume.grid))
        if self.options.save_probabilities and result.probabilities is not None:
            self._write_probabilities(job, result.probabilities)
        if self.options.overlay:
            figure = volume_overlay(self._view(job, volume, labels), classes=self.classes)
            write_atomically(self.out / "overlays" / f"{job.name}.png", figure.savefig)
        if self.options.dicom_seg:
            source = job.sources[0]
            series = choose_series(source.path, source.series)
            turned = turn_back(labels, volume.grid.to_canonical)
            write_segmentation(self.out / "dicom_seg" / f"{job.name}.dcm", turned, series, self.classes)
        for path, values in self._region_paths(job, regions):
            write_volume_labels(path, values * self._factor, volume.grid)
        write_volume_labels(self.mask_path(job), labels * self._factor, volume.grid)
        return bool(labels.any())

    def draw_volume(self, job: VolumeJob, volume: Volume) -> Image.Image:
        """Picture of the mask that was written.

        Raises:
            DataError: It is missing or damaged.
        """
        labels = read_volume_labels(VolumeSource(self.mask_path(job)), volume.grid, ignore_headers=True) // self._factor
        if volume.grid.is_picture:
            view = self._view(job, volume, labels)
            grey = np.zeros(labels.shape[1:]) if view.image is None else view.image[0].clip(0, 1)
            pixels = np.repeat((grey * 255).astype(np.uint8)[..., None], 3, axis=2)
            return Image.fromarray(draw_outlined_thumbnail(pixels, labels[0], size=PICTURE_SIDE))
        content = BytesIO()
        volume_overlay(self._view(job, volume, labels), classes=self.classes).savefig(content)
        return Image.open(content)

    def _view(self, job: VolumeJob, volume: Volume, labels: np.ndarray) -> VolumeView:
        """The three planes of the first channel through the largest prediction, in the grid of the source."""
        image = volume.values[0]
        # A million voxels are enough for percentiles.
        step = max(1, round((image.size / 1e6) ** (1 / 3)))
        sample = image[::step, ::step, ::step]
        statistics = measure_channel(sample[np.isfinite(sample)])

        def normalize(slices: np.ndarray) -> np.ndarray:
            return np.asarray(self.intensity.normalize(slices, statistics)[0])

        return view_volume(job.name, image, volume.spacing_mm, labels=labels, normalize=normalize)

    def _relative_paths(self, job: Job, *, guide_maps: int = 1) -> list[str]:
        segmentation = [f"dicom_seg/{job.name}.dcm"] if self.options.dicom_seg else []
        return super()._relative_paths(job, guide_maps=guide_maps) + segmentation
