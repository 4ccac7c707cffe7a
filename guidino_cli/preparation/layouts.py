"""Table of layouts, and detection of the one that a folder has."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from guidino_cli.errors import ConfigError, DataError, unknown_name
from guidino_cli.preparation import generic_layouts, public_layouts
from guidino_cli.preparation.label_files.coco import detect_coco
from guidino_cli.preparation.label_files.cvat import detect_cvat
from guidino_cli.preparation.label_files.geojson import detect_geojson
from guidino_cli.preparation.label_files.label_studio import detect_label_studio
from guidino_cli.preparation.label_files.labelme import detect_labelme
from guidino_cli.preparation.label_files.yolo import detect_yolo
from guidino_cli.preparation.options import VolumeConfig
from guidino_cli.preparation.types import DiscoveredDataset
from guidino_cli.preparation.volumes.layouts import (
    VOLUME_LAYOUTS,
    detect_dicom_layout,
    detect_volume_layout,
    has_volumes,
)
from guidino_cli.progress import join_first, pluralize

LayoutDetector = Callable[[Path], DiscoveredDataset | None]

# Layouts of one rank exclude each other; a lower rank is tried only if none above it fits.
_RANKS: tuple[Mapping[str, LayoutDetector], ...] = (
    {
        "csv": generic_layouts.detect_csv,
        "nnunet": public_layouts.detect_nnunet,
        "tn3k": public_layouts.detect_tn3k,
        "busi": public_layouts.detect_busi,
        "drive": public_layouts.detect_drive,
        "isic": public_layouts.detect_isic,
    },
    {"kvasir": public_layouts.detect_kvasir},
    {"siblings": generic_layouts.detect_sibling_folders},
    {"suffix": generic_layouts.detect_single_folder},
    {
        "coco": detect_coco,
        "yolo": detect_yolo,
        "labelme": detect_labelme,
        "cvat": detect_cvat,
        "labelstudio": detect_label_studio,
        "geojson": detect_geojson,
    },
)
_DESCRIPTIONS = {
    "csv": "a .csv file with the columns image and mask",
    "nnunet": "dataset.json, imagesTr/, labelsTr/",
    "tn3k": "trainval-image/, trainval-mask/, test-image/, test-mask/",
    "busi": "benign/, malignant/ (and normal/) with `x.png`, `x_mask.png`",
    "drive": "training/images, training/1st_manual",
    "isic": "ISIC..._Training_Data (or _Input) and ISIC..._Training_..._GroundTruth",
    "kvasir": "images/ and masks/ with Kvasir-SEG's names or its kavsir_bboxes.json",
    "siblings": "two folders such as images/ and masks/, also within train/, val/, test/",
    "suffix": "one folder with `x.jpg` and `x_mask.png`",
    "coco": "a .json file with images, annotations and categories, in UTF-8",
    "yolo": "data.yaml with names, train, val and test; images/ and labels/ with one text file per image",
    "labelme": "one LabelMe .json file per image, with shapes and imagePath",
    "cvat": "an .xml file exported as `CVAT for images`, not `for video`",
    "labelstudio": "a .json export of Label Studio, a list of tasks; not JSON-MIN",
    "geojson": "one .geojson file per image, named as it, with polygons and classifications",
}
_DESCRIPTIONS |= VOLUME_LAYOUTS
_GENERIC = {"siblings", "suffix", "kvasir"}


def layout_names() -> list[str]:
    """Values of `--layout` besides auto."""
    return list(dict.fromkeys([*(name for rank in _RANKS for name in rank), *VOLUME_LAYOUTS]))


def detect_layout(source: Path, layout: str = "auto", volumes: VolumeConfig | None = None) -> DiscoveredDataset:
    """Detect the layout of a folder or CSV of pairs, and list its image-mask pairs.

    Args:
        source: Folder or .csv file.
        layout: "auto", or one of `layout_names()`.
        volumes: Options for volumes, such as the names of the channels; None for the defaults.

    Raises:
        ConfigError: Unknown layout.
        DataError: Nothing fits, several layouts fit, the chosen one does not, or images and volumes are mixed.
    """
    if layout != "auto" and layout not in layout_names():
        raise ConfigError("--layout: " + unknown_name("layout", layout, ["auto", *layout_names()]))
    if not source.exists():
        raise DataError(f"{source}: no such folder or file")
    source = _unnest(source)
    dataset = _detect_images(source, layout)
    of_volumes = detect_volume_layout(source, layout, volumes or VolumeConfig())
    if dataset is not None and of_volumes is not None:
        raise DataError(
            f"{source}: holds images ({dataset.layout}: {pluralize(len(dataset.pairs), 'pair')}) and volumes "
            f"({of_volumes.layout}: {pluralize(len(of_volumes.pairs), 'pair')}), and a data set has one kind; prepare "
            "them apart, from two folders"
        )
    found = dataset or of_volumes or detect_dicom_layout(source, layout, volumes or VolumeConfig())
    if found is not None:
        return found
    summary = f"{source}: found {_describe_contents(source)}"
    if layout != "auto":
        raise DataError(f"{summary}, expected layout {layout}: {_DESCRIPTIONS[layout]}")
    if has_volumes(source):
        kinds = "; ".join(f"{name}: {text}" for name, text in VOLUME_LAYOUTS.items())
        raise DataError(f"{summary}, expected volumes with masks in one of the layouts {kinds}")
    raise DataError(
        f"{summary}, expected image-mask pairs{_suggest_source(source)}: two folders such as images/ and masks/, one "
        "folder with `x.jpg` and `x_mask.png`, or a CSV with the columns image,mask; also known: "
        f"{', '.join(layout_names())} (--layout NAME says what it looks for)"
    )


def _detect_images(source: Path, layout: str) -> DiscoveredDataset | None:
    for rank in _RANKS:
        fits = {
            name: dataset
            for name, detector in rank.items()
            if layout in {"auto", name} and (dataset := detector(source)) is not None
        }
        if len(fits) > 1:
            evidence = "; ".join(f"{name}: {dataset.evidence}" for name, dataset in fits.items())
            raise DataError(f"{source}: fits several layouts ({evidence}); choose with --layout")
        if fits:
            return _note_unused_folders(source, fits.popitem()[1])
    return None


def _suggest_source(source: Path) -> str:
    """Another source that may have been meant: the parent folder, or a table in the folder; "" if there is none."""
    if not source.is_dir():
        return ""
    above = source.resolve().parent
    try:
        dataset = generic_layouts.detect_sibling_folders(above)
    except DataError:
        dataset = None
    files = [] if dataset is None else [path for pair in dataset.pairs for path in (*pair.images, *pair.masks)]
    if source.resolve() in {path.parent for path in files}:
        return f" (did you mean the folder above, {source.parent if source.parent.name else above}?)"
    tables = sorted(path for path in source.iterdir() if path.suffix.lower() in {".csv", ".tsv"})
    return f" (did you mean {join_first([str(path) for path in tables], ' or ', limit=2)}?)" if tables else ""


def _note_unused_folders(source: Path, dataset: DiscoveredDataset) -> DiscoveredDataset:
    """Name the folders that hold images of which none is used.

    In a generic layout, a part of a split that is not used at all (`test2/` beside a used `train/`) goes to
    `unused_parts`. The layouts of public data sets leave folders out on purpose, so theirs are only noted.
    """
    if not source.is_dir():
        return dataset
    files = [path for pair in dataset.pairs for path in (*pair.images, *pair.masks)]
    files += [
        *dataset.unmatched_images,
        *dataset.unmatched_masks,
        *(path for item in dataset.collisions for path in item),
    ]
    used = {path.parent for path in files}
    used_or_above = used | {above for folder in used for above in folder.parents}
    notes, parts = list(dataset.notes), []
    for folder in generic_layouts.find_image_folders(source):
        relative = folder.relative_to(source)
        name = f"{relative.as_posix()}/"
        if folder in used or any(note.startswith(name.split("/")[0] + "/") and name in note for note in notes):
            continue
        split_parts = [path for path in (folder, *folder.parents) if path.is_relative_to(source) and path != source]
        split_parts = [path for path in split_parts if generic_layouts.has_split_word(path.name)]
        if dataset.layout in _GENERIC and split_parts and not used_or_above & set(split_parts):
            parts.append(folder)
        else:
            notes.append(f"{name} is not used")
    return replace(dataset, notes=notes, unused_parts=parts)


def _unnest(source: Path) -> Path:
    """The folder that holds the data, if unpacking made `X/X/...` with nothing beside it."""
    while source.is_dir():
        entries = [path for path in source.iterdir() if not path.name.startswith((".", "__MACOSX"))]
        if len(entries) != 1 or not entries[0].is_dir():
            break
        source = entries[0]
    return source


def _describe_contents(source: Path) -> str:
    if source.is_file():
        return f"a {source.suffix or 'nameless'} file"
    names = [path.name + ("/" if path.is_dir() else "") for path in sorted(source.iterdir())]
    return "an empty folder" if not names else f"{', '.join(names[:6])}{' ...' if len(names) > 6 else ''}"
