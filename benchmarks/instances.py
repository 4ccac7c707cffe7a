"""Instances from true and from noisy affinities of label volumes: errors by method and threshold.

The noise is ours: affinities blurred by a Gaussian of one voxel, plus normal noise of deviation 0.2, clipped to [0, 1].

    python benchmarks/instances.py LABELS.nii.gz ... --seeds 3
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
from scipy.ndimage import gaussian_filter

from guidino_cli.data.instances.affinities import affinities_of_labels
from guidino_cli.data.instances.labelling import METHODS, Method, label_instances
from guidino_cli.metrics.overlap import adapted_rand_error, variation_of_information

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
NOISE, BLUR = 0.2, 1.0


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", nargs="+", type=Path, help="label volumes (NIfTI)")
    parser.add_argument("--seeds", type=int, default=1, help="seeds of the noise")
    options = parser.parse_args()
    print("| volume | affinities | method | threshold | ARE | VOI split | VOI merged | CPU s |")
    print("|---|---|---|---:|---:|---:|---:|---:|")
    for path in options.labels:
        image = nibabel.load(path)
        labels = np.asarray(image.dataobj).T.astype(np.int64)
        spacing = tuple(map(float, image.header.get_zooms()[:3][::-1]))
        for name, affinities in _affinities(labels, options.seeds):
            for method in METHODS:
                for row in _rows(labels, affinities, method, spacing):
                    print(f"| {path.name.split('.')[0]} | {name} | {method} | {row} |", flush=True)


def _affinities(labels: np.ndarray, seeds: int) -> Iterator[tuple[str, np.ndarray]]:
    true = affinities_of_labels(labels)
    yield "true", true
    blurred = np.stack([gaussian_filter(own, BLUR) for own in true])
    for seed in range(seeds):
        noise = np.random.default_rng(seed).normal(0, NOISE, blurred.shape)
        yield f"noisy, seed {seed}", (blurred + noise).clip(0, 1).astype(np.float32)


def _rows(labels: np.ndarray, affinities: np.ndarray, method: Method, spacing: tuple[float, ...]) -> Iterator[str]:
    began, inside = time.process_time(), labels > 0
    found = list(label_instances(affinities, THRESHOLDS, method=method, spacing=spacing))
    seconds = time.process_time() - began
    for threshold, own in zip(THRESHOLDS, found, strict=True):
        # The background of the truth is left out of both, as in the definition of the error.
        merged, split = variation_of_information(own[inside], labels[inside])
        yield f"{threshold} | {adapted_rand_error(own, labels):.4f} | {split:.3f} | {merged:.3f} | {seconds:.1f}"


if __name__ == "__main__":
    main()
