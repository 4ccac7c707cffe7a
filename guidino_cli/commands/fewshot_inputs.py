"""Labelled and unlabelled images of `guidino fewshot`: from folders or a prepared data folder."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from guidino_cli.data.cases import IGNORED
from guidino_cli.data.file_records import require_unchanged_files
from guidino_cli.data.images import find_images, is_image
from guidino_cli.data.manifest import MANIFEST_NAME, Manifest, load_manifest, save_manifest
from guidino_cli.data.masks.rule import parse_classes
from guidino_cli.data.unlabelled import find_unlabelled_images
from guidino_cli.errors import ConfigError, DataError
from guidino_cli.files import file_sha256
from guidino_cli.options.data import PrepareOptions
from guidino_cli.options.fewshot import FewShotOptions
from guidino_cli.preparation.matching import match_masks
from guidino_cli.preparation.options import PreparationConfig
from guidino_cli.preparation.pipeline import prepare_dataset
from guidino_cli.preparation.types import DiscoveredDataset, MatchedFolders, merge_folders, read_names
from guidino_cli.progress import join_first, log_info, log_warning, pluralize
from guidino_cli.types import Case

DATA_FOLDER = "data"
"""Prepared folder inside of a run that was made of folders."""
_FOLDS = 5
# Of `prepare`; a run of few labels has no parts to speak of.
_ABOUT_PARTS = ("split", "the val", "the test", "train has", "val has", "test has", "no validation", "no test")


@dataclass(frozen=True)
class FewShotInputs:
    """What a run is fitted to.

    Attributes:
        source: Folder that the user named as that of the masks, for messages.
        root: Prepared folder that holds the labelled cases.
        manifest: Its content.
        labelled: Cases with masks, by id.
        unlabelled: Images to look at, apart from those.
        problems: Labels that were left out, as `--skip-bad` allows.
    """

    source: Path
    root: Path
    manifest: Manifest
    labelled: list[Case]
    unlabelled: list[Path]
    problems: list[str]


def collect_prepared(data: Path, options: FewShotOptions) -> FewShotInputs:
    """Take labelled and other cases of the training part of a prepared folder.

    Raises:
        DataError: No labelled case, or files that changed since they were prepared.
    """
    given = [name for name in ("classes", "threshold", "ignore_label", "exif") if getattr(options, name) is not None]
    given += [name for name in ("binary", "merge_masks", "skip_bad") if getattr(options, name)]
    if given:
        raise ConfigError(
            f"--{given[0].replace('_', '-')} is for folders of masks, but {data} is prepared: leave it out"
        )
    root = (data.parent if data.name == MANIFEST_NAME else data).resolve()
    manifest = load_manifest(root)
    if manifest.is_volumes:
        raise DataError(f"{data}: holds volumes, and fewshot takes images; cut them first: guidino slices")
    training = manifest.select("train")
    with_mask = [case for case in training if case.mask is not None]
    if not with_mask:
        raise DataError(f"{data}: no labelled case in the train split; run `guidino prepare` with another --split")
    labelled = [with_mask[place] for place in _choose([case.id for case in with_mask], options.labels, data)]
    require_unchanged_files(labelled, root)
    used = {case.id for case in labelled}
    rest = [case.image for case in training if case.id not in used]
    return FewShotInputs(data, root, manifest, labelled, _unlabelled(options, rest, labelled), [])


def collect_folders(images: Path, masks: Path, options: FewShotOptions, folder: Path) -> FewShotInputs:
    """Match images and masks by name, and prepare the chosen ones in a new folder.

    Args:
        images: Folder of images, or one image.
        masks: Folder of their masks, or one mask.
        options: Of the command.
        folder: Prepared folder to write.

    Raises:
        DataError: Masks that belong to no image, cannot be used, or can be read in several ways.
    """
    if images.resolve() == masks.resolve():
        raise DataError(f"{images}: is given as IMAGES and as MASKS; put images and masks into two folders")
    files, labels = _list(images, "IMAGES"), _list(masks, "MASKS")
    matches = match_masks(files, labels)
    if images.is_file() and masks.is_file():
        matches = replace(matches, pairs=[(images.stem, images, (masks,))], unmatched_images=[], unmatched_masks=[])
    if not matches.pairs and not matches.collisions:
        raise DataError(
            f"{masks}: no mask is named like an image of {images} (found {labels[0].name}, expected a name such as "
            f"{files[0].stem}.png or {files[0].stem}_mask.png)"
        )
    if matches.unmatched_masks:
        names = join_first([path.name for path in matches.unmatched_masks], limit=3)
        raise DataError(
            f"{masks}: {pluralize(len(matches.unmatched_masks), 'mask')} without an image in {images} ({names}); "
            "rename or remove them"
        )
    dataset = merge_folders("siblings", f"folders {images} and {masks}; {matches.rule}", [MatchedFolders(matches)])
    pairs = sorted(dataset.pairs, key=lambda pair: pair.id)
    chosen = [pairs[place] for place in _choose([pair.id for pair in pairs], options.labels, masks)]
    dataset = replace(dataset, pairs=chosen, unmatched_images=[])
    problems = _prepare(images, dataset, options, folder)
    used = {pair.images[0] for pair in chosen}
    manifest = _with_folds(load_manifest(folder), folder)
    rest = [path for path in files if path not in used]
    return FewShotInputs(
        masks, folder, manifest, list(manifest.cases), _unlabelled(options, rest, manifest.cases), problems
    )


def require_regions(inputs: FewShotInputs, labels: Sequence[np.ndarray]) -> None:
    """Require pixels inside and outside of every class, and name labels that lack a class.

    Args:
        inputs: With the labelled cases.
        labels: (H, W) class indices of each of them.

    Raises:
        DataError: A class that no label has, or that fills them all.
    """
    names, count = inputs.manifest.classes, len(labels)
    found = np.array([np.bincount(item[item != IGNORED], minlength=len(names)) for item in labels])
    shown = join_first([case.id for case in inputs.labelled], limit=3)
    if not found[:, 1:].any():
        raise DataError(
            f"{inputs.source}: no labelled image has foreground ({shown}); label images that show the object"
        )
    if not found[:, 0].any() and len(names) == 2:
        raise DataError(
            f"{inputs.source}: all labelled images are {names[1]} throughout ({shown}); label images that show the "
            "background too, or name the values: --classes '0=background,255=object'"
        )
    for index, name in enumerate(names[1:], start=1):
        has = found[:, index] > 0
        if not has.any():
            raise DataError(
                f"{inputs.source}: no labelled image has a pixel of {name} ({shown}); label one that has, or leave the "
                "class out"
            )
        if not (found.sum(axis=1) > found[:, index]).any():
            raise DataError(f"{inputs.source}: all labelled images are {name} throughout ({shown}); label others too")
        if not has.all():
            missing = [case.id for case, is_there in zip(inputs.labelled, has, strict=True) if not is_there]
            teach = (
                "teach what it is not, and have no say in its threshold"
                if len(missing) > 1
                else ("teaches what it is not, and has no say in its threshold")
            )
            log_warning(
                f"{len(missing)} of {count} labelled images without {name} ({join_first(missing, limit=3)}): {teach}"
            )


def choose_evenly(items: Sequence[Path], count: int) -> list[Path]:
    """Up to `count` items, evenly spaced over the list: neighbours by name are often of one patient or video."""
    if len(items) <= count:
        return list(items)
    return [items[(2 * place + 1) * len(items) // (2 * count)] for place in range(count)]


def leave_out_copies(images: Sequence[Path], cases: Sequence[Case]) -> tuple[list[Path], int]:
    """Images whose files are not those of cases, and the number of the others."""
    known = {_image_sha256(case) for case in cases}
    sizes = {case.image.stat().st_size for case in cases}
    kept = [path for path in images if path.stat().st_size not in sizes or file_sha256(path) not in known]
    return kept, len(images) - len(kept)


def describe_labelled(cases: Sequence[Case]) -> list[dict[str, str]]:
    """Id and hashes of labelled cases, for `run.json`."""
    return [
        {"id": case.id, "image_sha256": _image_sha256(case), "mask_sha256": file_sha256(Path(str(case.mask)))}
        for case in cases
    ]


def _image_sha256(case: Case) -> str:
    return file_sha256(case.image) if case.image_record is None else case.image_record.sha256


def _list(place: Path, what: str) -> list[Path]:
    if place.is_file() and is_image(place):
        return [place]
    if not place.is_dir():
        raise DataError(f"{place}: {'not an image' if place.exists() else 'no such folder'}; give the folder of {what}")
    files = find_images(place)
    if not files:
        raise DataError(f"{place}: no images directly in this folder; give the folder of {what}")
    return files


def _choose(ids: Sequence[str], labels: str | None, source: Path) -> list[int]:
    """Places of the labelled cases to use."""
    if labels is None:
        return list(range(len(ids)))
    if labels.isdigit():
        count = int(labels)
        if not 1 <= count <= len(ids):
            raise ConfigError(f"--labels {labels}: {source} holds {pluralize(len(ids), 'label')}; give 1 to {len(ids)}")
        return list(range(count))
    path = Path(labels)
    if not path.is_file():
        raise ConfigError(f"--labels {labels}: expected a number, or a text file with one name a line")
    names = read_names(path)
    places = {name: place for place, name in enumerate(ids)}
    wanted = list(dict.fromkeys(name if name in places else Path(name).stem for name in names))
    unknown = [name for name in wanted if name not in places]
    if unknown or not wanted:
        found = f"{join_first(unknown, limit=3)} not among the labels of {source}" if unknown else "no name in it"
        raise DataError(f"{path}: {found} (such as {ids[0]})")
    return sorted(places[name] for name in wanted)


def _prepare(source: Path, dataset: DiscoveredDataset, options: FewShotOptions, folder: Path) -> list[str]:
    """Write a prepared folder with all cases for training; returns the problems of labels that were left out."""
    given = PrepareOptions(
        classes=options.classes,
        binary=options.binary,
        threshold=options.threshold,
        ignore_label=options.ignore_label,
        merge_masks=options.merge_masks,
        exif=options.exif,
        skip_bad=options.skip_bad,
        split="100/0/0",
    )
    config = PreparationConfig(
        options=given,
        name=source.resolve().name if source.is_dir() else source.stem,
        classes=parse_classes(options.classes) if options.classes else None,
        ratios=(1.0, 0.0, 0.0),
        export_name=None,
    )
    folder.mkdir(parents=True)
    summary, bad = prepare_dataset(source, dataset, config, folder)
    log_info(f"masks: {summary.mask_rule}")
    for text in summary.warnings:
        if not text.startswith(_ABOUT_PARTS) and "every mask is empty" not in text:
            log_warning(text)
    return [finding.text for finding in bad]


def _with_folds(manifest: Manifest, folder: Path) -> Manifest:
    """The manifest with the folds of the fit, so that `lora-tune` can validate on one of them."""
    groups = list(dict.fromkeys(case.group for case in manifest.cases))
    if len(groups) < 2:
        return manifest
    fold_of = {group: place % min(_FOLDS, len(groups)) for place, group in enumerate(groups)}
    folded = replace(manifest, cases=[replace(case, fold=fold_of[case.group]) for case in manifest.cases])
    save_manifest(folded, folder)
    return folded


def _unlabelled(options: FewShotOptions, rest: Sequence[Path], labelled: Sequence[Case]) -> list[Path]:
    if options.unlabelled_count == 0:
        return []
    found = list(rest)
    if options.unlabelled is not None:
        found, copies = leave_out_copies(find_unlabelled_images(options.unlabelled), labelled)
        if copies:
            log_info(f"{options.unlabelled}: {pluralize(copies, 'image')} left out, labelled already")
        if not found:
            raise DataError(f"{options.unlabelled}: every image is a labelled one; give a folder with others")
    return choose_evenly(found, options.unlabelled_count)
