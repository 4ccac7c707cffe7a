"""Prepared folders of small volumes for tests, written with the functions of the package, not with `prepare`."""

from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np

from guidino_cli.data.manifest import Manifest, save_manifest
from guidino_cli.data.volumes.intensities import measure_channel
from guidino_cli.data.volumes.stored import save_array
from guidino_cli.types import Case, StoredVolume, VolumeSource


def make_volumes(
    parent: Path,
    name: str = "volumes",
    *,
    train: int = 3,
    val: int = 2,
    test: int = 1,
    shape: tuple[int, int, int] = (12, 20, 16),
    spacing_mm: tuple[float, float, float] = (3.0, 1.0, 1.5),
    channels: Sequence[str] = ("MR",),
    num_classes: int = 2,
    ignore_label: int | None = None,
    suffix: str = ".npy",
    fold_count: int = 0,
    seed: int = 0,
) -> Path:
    """A prepared folder of bright boxes in dark noise, brighter for higher classes; each size differs by a voxel.

    Images and masks are NIfTI files with the axes LPS, so the stored arrays are theirs, transposed.

    Args:
        parent: Where the folder is made.
        name: Of the folder and the data set.
        train: Training cases.
        val: Validation cases.
        test: Test cases.
        shape: Z, Y, X of the first case; the others are a voxel larger along Y or X.
        spacing_mm: Along Z, Y, X.
        channels: Their names.
        num_classes: Background included, at most 4. A class has a box of about a third of each side.
        ignore_label: Value of the last slice of every mask.
        suffix: Of the stored arrays.
        fold_count: Folds of the cases that are not test cases.
        seed: Of noise and boxes.
    """
    folder, generator = parent / name, np.random.default_rng(seed)
    for part in ("sources", "masks", "volumes", "labels", "foreground"):
        (folder / part).mkdir(parents=True)
    cases, foregrounds = [], []
    for number, split in enumerate(["train"] * train + ["val"] * val + ["test"] * test):
        size = (shape[0], shape[1] + number % 2, shape[2] + number % 3)
        labels = _boxes(size, num_classes, generator)
        values = generator.integers(0, 60, (len(channels), *size)).astype(np.int16)
        values += labels.astype(np.int16) * (180 // num_classes)
        if ignore_label is not None:
            labels[-1] = ignore_label
        case = _write_case(folder, f"case{number}", values, labels, spacing_mm, split, ignore_label, suffix)
        fold = number % fold_count if fold_count and split != "test" else None
        cases.append(Case(**{**vars(case), "fold": fold}))
        if split == "train":
            foregrounds.append(values[:, (labels > 0) & (labels != ignore_label)])
    manifest = Manifest(
        name,
        ["background", "a", "b", "c"][:num_classes],
        cases,
        {},
        ignore_label=ignore_label,
        channels=tuple(channels),
        spacing_mm=(None, None, None),
        statistics=tuple(measure_channel(channel) for channel in np.concatenate(foregrounds, axis=1)),
    )
    save_manifest(manifest, folder)
    return folder


def _boxes(size: tuple[int, int, int], num_classes: int, generator: np.random.Generator) -> np.ndarray:
    labels = np.zeros(size, dtype=np.uint8)
    sides = [max(2, side // 3) for side in size]
    for index in range(1, num_classes):
        z, y, x = (int(generator.integers(0, side - box)) for side, box in zip(size, sides, strict=True))
        labels[z : z + sides[0], y : y + sides[1], x : x + sides[2]] = index
    return labels


def _write_case(
    folder: Path, name: str, values: np.ndarray, labels: np.ndarray, spacing_mm: tuple[float, float, float],
    split: str, ignore_label: int | None, suffix: str,
) -> Case:  # fmt: skip
    z, y, x = spacing_mm
    # NIfTI's axes are RAS: LPS+ has negative first and second rows.
    affine = np.diag([-x, -y, z, 1.0])
    image, mask = folder / "sources" / f"{name}.nii.gz", folder / "masks" / f"{name}.nii.gz"
    pixels = values.transpose(3, 2, 1, 0)
    nibabel.save(nibabel.Nifti1Image(pixels[..., 0] if len(values) == 1 else pixels, affine), image)
    nibabel.save(nibabel.Nifti1Image(labels.T, affine), mask)
    paths = [folder / part / f"{name}{suffix}" for part in ("volumes", "labels")]
    foreground = folder / "foreground" / f"{name}.npy"
    is_foreground = (labels > 0) & (labels != ignore_label)
    rows = np.concatenate([labels[is_foreground][:, None], np.argwhere(is_foreground)], axis=1).astype(np.int32)
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    for path, array in zip([*paths, foreground], [values, labels, rows], strict=True):
        save_array(path, array)
    stored = StoredVolume(
        sources=(VolumeSource(image),),
        image=paths[0],
        labels=paths[1],
        foreground=foreground,
        shape=(labels.shape[0], labels.shape[1], labels.shape[2]),
        spacing_mm=spacing_mm,
        statistics=tuple(measure_channel(channel) for channel in values),
        orientation="LPS",
    )
    share = float(is_foreground.mean())
    return Case(
        name, image, mask, split, None, name, (labels.shape[1], labels.shape[2]), share,
        ignore_label=ignore_label, volume=stored,
    )  # fmt: skip
