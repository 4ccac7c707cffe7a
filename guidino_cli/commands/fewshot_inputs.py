"""Labelled and unlabelled images or volumes of `guidino fewshot`: from folders or a prepared data folder."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from guidino_cli.commands.fewshot_files import leave_out_copies
from guidino_cli.commands.fewshot_volumes import (
    UnlabelledVolume,
    find_unlabelled_volumes,
    holds_volumes,
    match_volume_folders,
    other_volumes,
    refuse_options_of_images,
    refuse_options_of_volumes,
    volume_config,
)
from guidino_cli.data.file_records import require_unchanged_files
from guidino_cli.data.images import find_images, is_image
from guidino_cli.data.manifest import MANIFEST_NAME, Manifest, load_manifest, save_manifest
from guidino_cli.data.masks.rule import parse_classes
from guidino_cli.data.unlabelled import find_unlabelled_images
from guidino_cli.engine.fewshot.slices import spread
from guidino_cli.errors import ConfigError, DataError
from guidino_cli.files import file_stem
from guidino_cli.options.data import PrepareOptions
from guidino_cli.options.fewshot import FewShotOptions
from guidino_cli.preparation.matching import match_masks
from guidino_cli.preparation.options import PreparationConfig, VolumeConfig
from guidino_cli.preparation.pipeline import prepare_dataset
from guidino_cli.preparation.types import DiscoveredDataset, MatchedFolders, merge_folders, read_names
from guidino_cli.preparation.volumes.pipeline import prepare_volumes
from guidino_cli.progress import join_first, log_info, log_warning, pluralize
from guidino_cli.types import Case

DATA_FOLDER = "data"
"""Prepared folder inside of a run that was made of folders."""
_FOLDS = 5
_Item = TypeVar("_Item")
# Of `prepare`; a run of few labels has no parts to speak of.
_ABOUT_PARTS = ("split", "the val", "the test", "train has", "val has", "test has", "no validation", "no test")


@dataclass(frozen=True)
class FewShotInputs:
    """Labelled and unlabelled cases that a run is fitted to.

    Attributes:
        source: Folder that the user named as that of the masks, for messages.
        root: Prepared folder that holds the labelled cases.
        manifest: Its content.
        labelled: Cases with masks, by id.
        unlabelled: Images to look at, apart from those.
        problems: Labels that were left out, as `--skip-bad` allows.
        volumes: Volumes to look at, in the place of images.
    """

    source: Path
    root: Path
    manifest: Manifest
    labelled: list[Case]
    unlabelled: list[Path]
    problems: list[str]
    volumes: list[UnlabelledVolume] = field(default_factory=list)

    @property
    def noun(self) -> str:
        """Name of a case in messages: "image" or "volume"."""
        return "volume" if self.manifest.is_volumes else "image"


def collect_prepared(data: Path, options: FewShotOptions) -> FewShotInputs:
    """Take labelled and other cases of the training part of a prepared folder.

    Raises:
        DataError: No labelled case, or files that changed since they were prepared.
    """
    values = ("classes", "threshold", "ignore_label", "exif", "channels", "orientation")
    given = [name for name in values if getattr(options, name) is not None]
    given += [name for name in ("binary", "merge_masks", "ignore_headers", "skip_bad") if getattr(options, name)]
    if given:
        raise ConfigError(
            f"--{given[0].replace('_', '-')} is for folders of masks, but {data} is prepared: leave it out"
        )
    root = (data.parent if data.name == MANIFEST_NAME else data).resolve()
    manifest = load_manifest(root)
    if not manifest.is_volumes:
        refuse_options_of_volumes(options)
    training = manifest.select("train")
    with_mask = [case for case in training if case.mask is not None]
    if not with_mask:
        raise DataError(f"{data}: no labelled case in the train split; run `guidino prepare` with another --split")
    labelled = [with_mask[place] for place in _choose([case.id for case in with_mask], options.labels, data)]
    require_unchanged_files(labelled, root)
    used = {case.id for case in labelled}
    rest = [case for case in training if case.id not in used]
    if manifest.is_volumes:
        others = _unlabelled_volumes(options, [UnlabelledVolume.of_case(case) for case in rest], manifest, labelled)
        return FewShotInputs(data, root, manifest, labelled, [], [], others)
    unlabelled = _unlabelled(options, [case.image for case in rest], labelled)
    return FewShotInputs(data, root, manifest, labelled, unlabelled, [])


def collect_folders(images: Path, masks: Path, options: FewShotOptions, folder: Path) -> FewShotInputs:
    """Match images and masks by name, and prepare the chosen ones in a new folder.

    Args:
        images: Folder of images or of volumes, or one of them.
        masks: Folder of their masks, or one mask.
        options: Options of the command.
        folder: Prepared folder to write.

    Raises:
        DataError: Masks that belong to no image, cannot be used, or can be read in several ways.
    """
    if images.resolve() == masks.resolve():
        raise DataError(f"{images}: is given as IMAGES and as MASKS; put images and masks into two folders")
    if holds_volumes(images) or holds_volumes(masks):
        return _collect_volumes(images, masks, options, folder)
    refuse_options_of_volumes(options)
    files, labels = _list(images, "IMAGES"), _list(masks, "MASKS")
    matches = match_masks(files, labels)
    if images.is_file() and masks.is_file():
        matches = replace(matches, pairs=[(images.stem, images, (masks,))], unmatched_images=[], unmatched_masks=[])
    if not matches.pairs and not matches.collisions:
        raise DataError(
            f"{masks}: no mask is named like an image of {images} (found {labels[0].name}, expected a name such as "
            f"{files[0].stem}.png or {files[0].stem}_mask.png)"
        )
    _require_owners(matches.unmatched_masks, images, masks, noun="an image")
    dataset = merge_folders("siblings", f"folders {images} and {masks}; {matches.rule}", [MatchedFolders(matches)])
    pairs = sorted(dataset.pairs, key=lambda pair: pair.id)
    chosen = [pairs[place] for place in _choose([pair.id for pair in pairs], options.labels, masks)]
    dataset = replace(dataset, pairs=chosen, unmatched_images=[])
    problems = _prepare(images, dataset, options, VolumeConfig(), folder)
    used = {pair.images[0] for pair in chosen}
    manifest = _with_folds(load_manifest(folder), folder)
    rest = [path for path in files if path not in used]
    return FewShotInputs(
        masks, folder, manifest, list(manifest.cases), _unlabelled(options, rest, manifest.cases), problems
    )


def _collect_volumes(images: Path, masks: Path, options: FewShotOptions, folder: Path) -> FewShotInputs:
    refuse_options_of_images(options)
    config = volume_config(options)
    dataset, found = match_volume_folders(images, masks, config)
    _require_owners(found.matches.unmatched_masks, images, masks, noun="a volume")
    chosen = [dataset.pairs[place] for place in _choose([pair.id for pair in dataset.pairs], options.labels, masks)]
    problems = _prepare(images, replace(dataset, pairs=chosen, unmatched_images=[]), options, config, folder)
    manifest = _with_folds(load_manifest(folder), folder)
    rest = other_volumes(images, config, [pair.images[0] for pair in chosen])
    others = _unlabelled_volumes(options, rest, manifest, manifest.cases)
    return FewShotInputs(masks, folder, manifest, list(manifest.cases), [], problems, others)


def _require_owners(unmatched: Sequence[Path], images: Path, masks: Path, *, noun: str) -> None:
    if unmatched:
        names = join_first([path.name for path in unmatched], limit=3)
        raise DataError(
            f"{masks}: {pluralize(len(unmatched), 'mask')} without {noun} in {images} ({names}); rename or remove them"
        )


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
        raise ConfigError(f"--labels {labels}: expected a number, or a text file with one name per line")
    names = read_names(path)
    places = {name: place for place, name in enumerate(ids)}
    wanted = list(dict.fromkeys(name if name in places else file_stem(Path(name)) for name in names))
    unknown = [name for name in wanted if name not in places]
    if unknown or not wanted:
        found = f"{join_first(unknown, limit=3)} not among the labels of {source}" if unknown else "no name in it"
        raise DataError(f"{path}: {found} (such as {ids[0]})")
    return sorted(places[name] for name in wanted)


def _prepare(
    source: Path, dataset: DiscoveredDataset, options: FewShotOptions, volumes: VolumeConfig, folder: Path
) -> list[str]:
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
        volumes=volumes,
    )
    folder.mkdir(parents=True)
    prepare = prepare_volumes if dataset.is_volumes else prepare_dataset
    summary, bad = prepare(source, dataset, config, folder)
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
    return _choose_evenly(found, options.unlabelled_count)


def _unlabelled_volumes(
    options: FewShotOptions, rest: Sequence[UnlabelledVolume], manifest: Manifest, labelled: Sequence[Case]
) -> list[UnlabelledVolume]:
    if options.unlabelled_count == 0:
        return []
    found = list(rest)
    if options.unlabelled is not None:
        given = {item.path: item for item in find_unlabelled_volumes(options.unlabelled, manifest.channels)}
        # A DICOM series is no file that could be a copy.
        files = [case for case in labelled if case.image_record is not None]
        kept, copies = leave_out_copies([path for path in given if path.is_file()], files)
        if copies:
            log_info(f"{options.unlabelled}: {pluralize(copies, 'volume')} left out, labelled already")
        found = [item for path, item in given.items() if path in kept or not path.is_file()]
        if not found:
            raise DataError(f"{options.unlabelled}: every volume is a labelled one; give a folder with others")
    return _choose_evenly(found, options.unlabelled_count)


def _choose_evenly(items: Sequence[_Item], count: int) -> list[_Item]:
    """Up to `count` items, evenly spaced over the list: neighbours by name are often of one patient or video."""
    return [items[place] for place in spread(range(len(items)), count)]
