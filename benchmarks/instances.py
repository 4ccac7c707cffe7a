"""Instances from true and from noisy affinities of label volumes: errors by method and threshold.

The noise is ours: affinities blurred by a Gaussian, by default of one voxel, plus normal noise, clipped to [0, 1]. With
--cells each voxel of the background is given to the nearest instance, so that instances touch everywhere.

    python benchmarks/instances.py LABELS.nii.gz ... --seeds 3
    python benchmarks/instances.py LABELS.nii.gz ... --cells --blur 0.5 --noise 0.15 --thresholds 0.5 0.7 0.9
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import nibabel
import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter

from guidino_cli.data.instances.affinities import affinities_of_labels
from guidino_cli.data.instances.labelling import METHODS, Method, label_instances
from guidino_cli.metrics.overlap import adapted_rand_error, variation_of_information


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", nargs="+", type=Path, help="label volumes (NIfTI)")
    parser.add_argument("--seeds", type=int, default=1, help="seeds of the noise")
    parser.add_argument("--noise", nargs="+", type=float, default=[0.2], help="deviations of the noise")
    parser.add_argument("--blur", type=float, default=1.0, help="deviation of the Gaussian in voxels; 0 for none")
    parser.add_argument("--thresholds", nargs="+", type=float, default=[0.5, 0.6, 0.7, 0.8, 0.9])
    parser.add_argument("--cells", action="store_true", help="leave no background between instances")
    options = parser.parse_args()
    print("| volume | affinities | method | threshold | ARE | VOI split | VOI merged | CPU s |")
    print("|---|---|---|---:|---:|---:|---:|---:|")
    for path in options.labels:
        image = nibabel.load(path)
        labels = np.asarray(image.dataobj).T.astype(np.int64)
        spacing = tuple(map(float, image.header.get_zooms()[:3][::-1]))
        if options.cells:
            labels = labels[
                tuple(distance_transform_edt(labels == 0, spacing, return_distances=False, return_indices=True))
            ]
        for name, affinities in _affinities(labels, options.seeds, options.noise, options.blur):
            for method in METHODS:
                for row in _rows(labels, affinities, method, spacing, options.thresholds):
                    print(f"| {path.name.split('.')[0]} | {name} | {method} | {row} |", flush=True)


def _affinities(
    labels: np.ndarray, seeds: int, deviations: Sequence[float], blur: float
) -> Iterator[tuple[str, np.ndarray]]:
    true = affinities_of_labels(labels)
    yield "true", true
    blurred = np.stack([gaussian_filter(own, blur) if blur else own for own in true])
    for deviation in deviations:
        for seed in range(seeds):
            noise = np.random.default_rng(seed).normal(0, deviation, blurred.shape)
            yield f"noise {deviation:g}, seed {seed}", (blurred + noise).clip(0, 1).astype(np.float32)


def _rows(
    labels: np.ndarray, affinities: np.ndarray, method: Method, spacing: tuple[float, ...], thresholds: Sequence[float]
) -> Iterator[str]:
    began, inside = time.process_time(), labels > 0
    found = list(label_instances(affinities, thresholds, method=method, spacing=spacing))
    seconds = time.process_time() - began
    for threshold, own in zip(thresholds, found, strict=True):
        # The background of the truth is left out of both, as in the definition of the error.
        merged, split = variation_of_information(own[inside], labels[inside])
        yield f"{threshold} | {adapted_rand_error(own, labels):.4f} | {split:.3f} | {merged:.3f} | {seconds:.1f}"


if __name__ == "__main__":
    main()
