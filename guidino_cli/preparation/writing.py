"""Write a prepared data set: images, manifest, report, contact sheet, nnU-Net raw folder."""

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from guidino_cli import __version__
from guidino_cli.data.cases import IGNORED, read_truth
from guidino_cli.data.file_records import record_file
from guidino_cli.data.image_writing import write_label_map, write_png
from guidino_cli.data.images import read_image
from guidino_cli.data.manifest import Manifest, save_manifest
from guidino_cli.data.masks.rule import MaskRule
from guidino_cli.errors import ConfigError
from guidino_cli.files import write_atomically, write_text
from guidino_cli.preparation.options import PreparationConfig
from guidino_cli.preparation.report import DatasetSummary, count_by_split, to_markdown
from guidino_cli.preparation.splits import SPLITS
from guidino_cli.preparation.types import DiscoveredDataset, ImageMaskPair, map_in_threads
from guidino_cli.types import Case

_TILES = 24


def write_contact_sheet(summary: DatasetSummary, folder: Path) -> None:
    """Write `contact_sheet.png`."""
    from guidino_cli.plots.contact_sheet import Tile, contact_sheet

    def tile(case: Case) -> Tile:
        assert case.mask is not None
        share = f"{100 * (case.foreground or 0):.1f} % foreground"
        mark = next((item.label for item in summary.suspicions if item.case == case.id), "")
        return Tile(read_image(case.image)[0], read_truth(case)[0], case.id, f"{case.split}, {share}", mark)

    chosen = choose_tiles(summary.cases, first=[item.case for item in summary.suspicions])
    heading = sheet_heading(summary.name, summary.cases, len(chosen), some_first=bool(summary.suspicions))
    figure = contact_sheet(map_in_threads(tile, chosen, "contact sheet"), heading=heading, classes=summary.classes)
    write_atomically(folder / "contact_sheet.png", lambda temporary: figure.savefig(temporary))


def sheet_heading(name: str, cases: Sequence[Case], shown: int, *, some_first: bool) -> str:
    """Two lines: name and size of the data set; which cases a contact sheet shows, and in which order.

    Args:
        name: Name of the data set.
        cases: All of them.
        shown: Number of cases on the sheet.
        some_first: Whether masks that should be looked at come first.
    """
    counts = ", ".join(f"{count} {part}" for part, count in count_by_split(cases).items() if count)
    ordered = "smallest to largest foreground of each part"
    ordered = f"masks to look at first, then {ordered}" if some_first else ordered
    which = "all" if shown == len(cases) else f"{shown} of {len(cases)} cases"
    return f"{name} ({counts})\n{which}, {ordered}"


def choose_tiles(cases: Sequence[Case], count: int = _TILES, *, first: Sequence[str] = ()) -> list[Case]:
    """Choose cases for the contact sheet, of each split evenly spaced by foreground.

    Up to a quarter of the tiles show the cases named `first`.
    """
    worst = set(list(dict.fromkeys(first))[: count // 4])
    chosen = [case for case in cases if case.id in worst]
    cases = [case for case in cases if case.id not in worst]
    count -= len(chosen)
    parts = {part: [case for case in cases if case.split == part] for part in SPLITS}
    tiles = _share_tiles({part: len(own) for part, own in parts.items()}, count)
    for part, own in parts.items():
        own.sort(key=lambda case: (case.foreground or 0, case.id))
        positions = np.linspace(0, len(own) - 1, tiles[part]).round().astype(int).tolist() if own else []
        chosen += [own[position] for position in positions]
    return chosen


def _share_tiles(sizes: Mapping[str, int], count: int) -> dict[str, int]:
    """Tiles of each part: half of them in equal shares, the others in proportion to the parts' sizes."""
    present = [part for part, size in sizes.items() if size]
    tiles = {part: min(size, count // (2 * max(len(present), 1))) for part, size in sizes.items()}
    rest, total = count - sum(tiles.values()), max(sum(sizes.values()), 1)
    lack = {part: rest * sizes[part] / total for part in present}
    for _ in range(rest):
        free = [part for part in present if tiles[part] < sizes[part]]
        if not free:
            break
        part = max(free, key=lambda part: lack[part])
        tiles[part], lack[part] = tiles[part] + 1, lack[part] - 1
    return tiles


def nnunet_folder_name(name: str, target: str) -> str:
    """Folder name for the target `nnunet` or `nnunet:27` of `--export`: `Dataset027_name`.

    Raises:
        ConfigError: Another target, or an id outside 1..999.
    """
    kind, _, number = target.partition(":")
    if kind != "nnunet" or (number and not (number.isdigit() and 1 <= int(number) <= 999)):
        raise ConfigError(f"--export {target}: expected nnunet, or nnunet:27 for Dataset027")
    words = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_") or "data"
    return f"Dataset{int(number or 1):03d}_{words}"


def export_nnunet(manifest: Manifest, folder: Path) -> None:
    """Write an nnU-Net raw folder: imagesTr, labelsTr, imagesTs, labelsTs, dataset.json and splits_final.json.

    Images are written as 8-bit RGB PNG, one file each, as nnU-Net's NaturalImage2DIO reads them. Train and val are
    nnU-Net's training cases; splits_final.json, to be copied into nnUNet_preprocessed, separates them.
    """

    def write_case(case: Case) -> None:
        part = "Ts" if case.split == "test" else "Tr"
        pixels, _ = read_image(case.image)
        write_png(folder / f"images{part}" / f"{case.id}_0000.png", pixels)
        if case.mask is not None:
            labels, ignored = read_truth(case)
            if ignored is not None:
                # nnU-Net wants its ignore label to follow the classes.
                labels = np.where(ignored, len(manifest.classes), labels)
            write_label_map(folder / f"labels{part}" / f"{case.id}.png", labels)

    map_in_threads(write_case, manifest.cases, "exporting")
    training = [case for case in manifest.cases if case.split != "test"]
    ignore = {} if manifest.ignore_label is None else {"ignore": len(manifest.classes)}
    description = {
        "channel_names": {"0": "R", "1": "G", "2": "B"},
        "labels": {name: index for index, name in enumerate(manifest.classes)} | ignore,
        "numTraining": len(training),
        "file_ending": ".png",
        "overwrite_image_reader_writer": "NaturalImage2DIO",
    }
    write_text(folder / "dataset.json", json.dumps(description, indent=2, ensure_ascii=False) + "\n")
    write_text(folder / "splits_final.json", json.dumps(_nnunet_folds(training), indent=2, ensure_ascii=False) + "\n")


def _nnunet_folds(training: Sequence[Case]) -> list[dict[str, list[str]]]:
    """Make nnU-Net's list of folds: the manifest's folds, or a single one of train against val."""
    folds = sorted({case.fold for case in training if case.fold is not None})
    if not folds:
        return [_nnunet_fold(training, {case.id for case in training if case.split == "val"})]
    return [_nnunet_fold(training, {case.id for case in training if case.fold == fold}) for fold in folds]


def _nnunet_fold(training: Sequence[Case], held_out: set[str]) -> dict[str, list[str]]:
    ids = [case.id for case in training]
    return {"train": [case for case in ids if case not in held_out], "val": [case for case in ids if case in held_out]}


def write_dataset(
    summary: DatasetSummary,
    folder: Path,
    dataset: DiscoveredDataset,
    rule: MaskRule,
    config: PreparationConfig,
    pairs: dict[str, ImageMaskPair],
) -> None:
    """Write a prepared data set into a folder that already holds the masks."""
    own = [case for case in summary.cases if case.image.is_relative_to(folder)]
    map_in_threads(lambda case: _write_image(case, pairs[case.id]), own, "copying images")
    cases = map_in_threads(_record_written_files, summary.cases, "recording files")
    manifest = Manifest(
        config.name,
        list(summary.classes),
        cases,
        _source_record(summary, dataset, rule, config),
        None if config.ignore is None else IGNORED,
    )
    save_manifest(manifest, folder)
    write_text(folder / "report.md", to_markdown(summary))
    write_contact_sheet(summary, folder)
    if config.export_name:
        export_nnunet(manifest, folder / "nnUNet_raw" / config.export_name)


def _record_written_files(case: Case) -> Case:
    """The case with records of the mask, and of the image if it was put together from channels."""
    assert case.mask is not None
    image = case.image_record or record_file(case.image, with_time=False)
    return replace(case, image_record=image, mask_record=record_file(case.mask, with_time=False))


def _write_image(case: Case, pair: ImageMaskPair) -> None:
    """Copy an image unchanged, or merge its channel files into one RGB PNG."""
    if len(pair.images) == 1:
        write_atomically(case.image, lambda temporary: shutil.copyfile(pair.images[0], temporary))
        # The record of the image holds its time.
        found = pair.images[0].stat()
        os.utime(case.image, ns=(found.st_atime_ns, found.st_mtime_ns))
        return
    channels = [read_image(path)[0][..., 0] for path in pair.images]
    channels += [np.zeros_like(channels[0])] * (3 - len(channels))
    write_png(case.image, np.stack(channels, axis=2))


def _source_record(
    summary: DatasetSummary, dataset: DiscoveredDataset, rule: MaskRule, config: PreparationConfig
) -> dict[str, object]:
    return {
        "guidino": __version__,
        "layout": dataset.layout,
        "layout_evidence": dataset.evidence,
        "mask_rule": rule.kind,
        "mask_threshold": rule.threshold if rule.kind == "threshold" else None,
        "mask_evidence": rule.sentence,
        "split_rule": summary.split_rule,
        "seed": config.options.seed,
        "group_by": config.options.group_by,
        "counts": count_by_split(summary.cases),
        "duplicates": [list(group) for group in summary.duplicates],
        "suspicious_masks": [{"case": item.case, "reason": item.text} for item in summary.suspicions],
        "warnings": list(summary.warnings),
        "notes": list(summary.notes),
    }
