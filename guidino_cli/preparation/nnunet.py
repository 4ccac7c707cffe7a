"""Write a prepared data set as an nnU-Net raw folder, ready for `nnUNetv2_plan_and_preprocess`."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from guidino_cli.data.images import read_image, read_label_map, write_label_map
from guidino_cli.data.manifest import Manifest
from guidino_cli.errors import ConfigError
from guidino_cli.files import write_atomically, write_text
from guidino_cli.types import Case


def dataset_folder(name: str, export: str) -> str:
    """Folder name for `--export nnunet` or `--export nnunet:27`: `Dataset027_name`.

    Raises:
        ConfigError: Another word, or an id that is not in 1..999.
    """
    kind, _, number = export.partition(":")
    if kind != "nnunet" or (number and not (number.isdigit() and 1 <= int(number) <= 999)):
        raise ConfigError(f"--export {export}: expected nnunet, or nnunet:27 for Dataset027")
    words = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_") or "data"
    return f"Dataset{int(number or 1):03d}_{words}"


def export(
    manifest: Manifest, folder: Path, *, each: Callable[[Callable[[Case], None], Sequence[Case]], object]
) -> None:
    """Write imagesTr, labelsTr, imagesTs, labelsTs, dataset.json and splits_final.json.

    Images become lossless 8-bit RGB PNG in one file each, as nnU-Net's NaturalImage2DIO reads them. Train and val are
    nnU-Net's training cases, and splits_final.json (to be copied into nnUNet_preprocessed) keeps them apart.

    Args:
        manifest: Cases with masks.
        folder: To be created.
        each: Applies a function to every case, perhaps in threads and with a progress bar.
    """

    def write(case: Case) -> None:
        part = "Ts" if case.split == "test" else "Tr"
        pixels, _ = read_image(case.image)
        image = Image.fromarray(pixels)
        place = folder / f"images{part}" / f"{case.id}_0000.png"
        write_atomically(place, lambda path: image.save(path, compress_level=3))
        if case.mask is not None:
            write_label_map(folder / f"labels{part}" / f"{case.id}.png", read_label_map(case.mask))

    each(write, manifest.cases)
    training = [case for case in manifest.cases if case.split != "test"]
    description = {
        "channel_names": {"0": "R", "1": "G", "2": "B"},
        "labels": {name: index for index, name in enumerate(manifest.classes)},
        "numTraining": len(training),
        "file_ending": ".png",
        "overwrite_image_reader_writer": "NaturalImage2DIO",
    }
    write_text(folder / "dataset.json", json.dumps(description, indent=2, ensure_ascii=False) + "\n")
    write_text(folder / "splits_final.json", json.dumps(_folds(training), indent=2, ensure_ascii=False) + "\n")


def _folds(training: Sequence[Case]) -> list[dict[str, list[str]]]:
    """nnU-Net's list of folds: the manifest's folds, or one of train against val."""
    folds = sorted({case.fold for case in training if case.fold is not None})
    if not folds:
        return [_fold(training, {case.id for case in training if case.split == "val"})]
    return [_fold(training, {case.id for case in training if case.fold == fold}) for fold in folds]


def _fold(training: Sequence[Case], held_out: set[str]) -> dict[str, list[str]]:
    ids = [case.id for case in training]
    return {"train": [case for case in ids if case not in held_out], "val": [case for case in ids if case in held_out]}
