"""`guidino prepare`: check a folder of images and masks and convert it into a prepared data set."""

import shlex
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from guidino_cli.commands.prepare_json import print_summary_json
from guidino_cli.config import preset_names
from guidino_cli.data.manifest import MANIFEST_NAME
from guidino_cli.data.masks.rule import Classes, parse_classes
from guidino_cli.data.volumes.slices import parse_orientation
from guidino_cli.data.volumes.spacing import parse_spacing
from guidino_cli.data.volumes.stored import BLOSC2_SUFFIX, NUMPY_SUFFIX
from guidino_cli.errors import ConfigError, PartialError
from guidino_cli.files import atomic_folder
from guidino_cli.options.argv import option_values, to_argv
from guidino_cli.options.data import PrepareOptions
from guidino_cli.outputs import require_output_folder
from guidino_cli.preparation.drawing import refuse_options_of_masks
from guidino_cli.preparation.layouts import detect_layout
from guidino_cli.preparation.options import PreparationConfig, VolumeConfig
from guidino_cli.preparation.pipeline import prepare_dataset
from guidino_cli.preparation.public_layouts import filter_normal_cases
from guidino_cli.preparation.report import DatasetSummary, class_shares, count_by_split, format_sizes
from guidino_cli.preparation.splits import SPLITS, parse_ratios
from guidino_cli.preparation.types import DiscoveredDataset
from guidino_cli.preparation.volumes.pictures import keep_numbers
from guidino_cli.preparation.volumes.pipeline import prepare_volumes
from guidino_cli.preparation.volumes.report import VolumeSummary, format_volume_sizes
from guidino_cli.preparation.writing import nnunet_folder_name
from guidino_cli.progress import pluralize

_SHOWN_SUSPICIONS = 5
_PRESETS = {"kvasir": "kvasir-nnwnet", "isic": "isic2017-nnwnet", "tn3k": "tn3k-nnwnet"}


def run(source: Path, options: PrepareOptions) -> None:
    """Detect the layout of a data set, check, convert and describe it.

    Raises:
        ConfigError: An option that cannot be used.
        DataError: Files that cannot be used or can be read in several ways.
        PartialError: The data set is written, but without bad cases, as `skip_bad` allows.
    """
    config = _parse_options(source, options)
    _check_paths(source, options)
    dataset = filter_normal_cases(
        detect_layout(source, options.layout, config.volumes), include=options.normal == "include"
    )
    found = dataset
    if found.is_drawn:
        refuse_options_of_masks(options)
    dataset = keep_numbers(
        source, found, config.volumes, wanted=options.store is not None or options.instances is not None
    )
    _check_kind_of_options(options, found, dataset)
    out = None if options.dry_run else options.out
    summary: DatasetSummary
    with nullcontext() if out is None else atomic_folder(out, hint="choose another -o") as folder:
        if dataset.is_volumes:
            summary, bad = prepare_volumes(source, dataset, config, folder)
        else:
            summary, bad = prepare_dataset(source, dataset, config, folder)
    if options.as_json:
        steps = [] if options.dry_run else _next_steps(summary, dataset.layout, source, options)
        print_summary_json(
            summary,
            layout=dataset.layout,
            out=out,
            left_out=bad,
            next_step=steps[0].partition(" ")[2].strip() if steps else None,
        )
    else:
        _print_summary(summary, dataset.layout, source, options, export_name=config.export_name)
    if bad:
        lines = "; ".join(finding.text for finding in bad[:10])
        left_out = pluralize(len({str(finding.case) for finding in bad}), "case")
        raise PartialError(f"{left_out} left out, the rest is prepared: {lines}")


def _parse_options(source: Path, options: PrepareOptions) -> PreparationConfig:
    if options.normal not in {"include", "exclude"}:
        raise ConfigError(f"--normal {options.normal}: expected include or exclude")
    if options.exif not in {None, "apply", "ignore"}:
        raise ConfigError(f"--exif {options.exif}: expected apply or ignore")
    if options.binary and options.threshold is not None:
        raise ConfigError("--binary and --threshold contradict each other; give one")
    name = options.name or (source.stem if source.is_file() else source.resolve().name)
    classes = parse_classes(options.classes) if options.classes else None
    _check_ignore_label(options.ignore_label, classes)
    _check_instances(options)
    return PreparationConfig(
        options=options,
        name=name,
        classes=classes,
        ratios=parse_ratios(options.split) if options.split and options.split != "official" else None,
        export_name=nnunet_folder_name(name, options.export) if options.export else None,
        volumes=_parse_volume_options(options),
    )


def _parse_volume_options(options: PrepareOptions) -> VolumeConfig:
    if options.store not in {None, "npy", "blosc2"}:
        raise ConfigError(f"--store {options.store}: expected npy or blosc2")
    return VolumeConfig(
        spacing_mm=parse_spacing(options.spacing or "keep"),
        array_suffix=BLOSC2_SUFFIX if options.store == "blosc2" else NUMPY_SUFFIX,
        orientation=None if options.orientation is None else parse_orientation(options.orientation),
        ignore_headers=options.ignore_headers,
        channels=_parse_list("--channels", options.channels),
        series=options.series,
        mask_suffixes=_parse_list("--mask-suffix", options.mask_suffix),
        onto=options.onto,
    )


def _parse_list(option: str, text: str | None) -> tuple[str, ...]:
    """Names that commas separate; () without the option."""
    if text is None:
        return ()
    names = tuple(name.strip() for name in text.split(","))
    if not all(names) or len(set(names)) < len(names):
        raise ConfigError(f"{option} '{text}': a name is empty or given twice")
    return names


# `--store` and `--channels` are for both.
_FOR_VOLUMES = ("spacing", "onto", "series", "mask_suffix", "orientation", "ignore_headers")
_FOR_IMAGES = ("copy", "exif", "merge_masks", "export", "normal")


def _check_kind_of_options(options: PrepareOptions, found: DiscoveredDataset, stored: DiscoveredDataset) -> None:
    """Refuse options that mean nothing for the data, which would be ignored otherwise."""
    kind = "volumes" if found.is_volumes else "images"
    for name in _given(options, _FOR_IMAGES if found.is_volumes else _FOR_VOLUMES):
        meant = "images" if found.is_volumes else "volumes"
        raise ConfigError(f"{name}: is for {meant}, but these are {kind}; leave it out")
    for name in _given(options, _FOR_IMAGES if stored.is_volumes else ()):
        raise ConfigError(f"{name}: is for images read as RGB, but the numbers of these are kept; leave it out")


def _given(options: PrepareOptions, names: Sequence[str]) -> list[str]:
    """Options that the user gave, as on the command line."""
    defaults = PrepareOptions()
    given = [name for name in names if getattr(options, name) != getattr(defaults, name)]
    return [f"--{name.replace('_', '-')}" for name in given]


def _check_instances(options: PrepareOptions) -> None:
    """Refuse options that give the values of instance masks another meaning."""
    if options.instances is None:
        return
    if options.instances not in {"numbers", "components"}:
        raise ConfigError(f"--instances {options.instances}: expected numbers or components")
    others = {
        "--classes": options.classes is not None,
        "--binary": options.binary,
        "--ignore-label": options.ignore_label is not None,
        "--threshold": options.threshold is not None and options.instances == "numbers",
    }
    if given := [option for option, is_given in others.items() if is_given]:
        raise ConfigError(
            f"{given[0]}: says which class values are, but --instances makes instances of them; leave one out"
        )


def _check_ignore_label(value: int | None, classes: Classes | None) -> None:
    """Refuse an ignore label that is a class."""
    if value is None:
        return
    codes = classes.codes if classes else None
    if codes is None and value == 0:
        raise ConfigError(
            "--ignore-label 0: 0 is the background; name the values, as in --classes '1=background,2=polyp'"
        )
    if codes is not None and value in codes and classes is not None:
        raise ConfigError(f"--ignore-label {value}: is {classes.names[codes[value]]} by --classes; leave it out there")
    if any(isinstance(code, tuple) for code in codes or ()):
        raise ConfigError(f"--ignore-label {value}: is a grey value, but --classes names colours; name grey values")


def _print_summary(
    summary: DatasetSummary, layout: str, source: Path, options: PrepareOptions, *, export_name: str | None
) -> None:
    """Print the summary in two columns, wrapped to the terminal."""
    from rich.console import Console
    from rich.table import Table

    shares = class_shares(summary)
    parts = ", ".join(f"{part} {count}" for part, count in count_by_split(summary.cases).items())
    is_volumes = isinstance(summary, VolumeSummary)
    if isinstance(summary, VolumeSummary):
        sizes = format_volume_sizes(summary)
        more = [("channels", ", ".join(summary.channels)), ("spacing", summary.spacing_rule)]
    else:
        sizes, more = f"{format_sizes(summary.cases)} px (width x height)", []
    rows = [
        ("data set", f"{summary.name}: {pluralize(len(summary.cases), 'case')}, {sizes}"),
        ("layout", summary.layout),
        ("masks", summary.mask_rule),
        ("classes", ", ".join(f"{name} {100 * s:.3g} %" for name, s in zip(summary.classes, shares, strict=True))),
        ("split", f"{parts} ({summary.split_rule})"),
        *more,
        ("repeats", _describe_duplicates(summary)),
        *(("look at", text) for text in _describe_suspicions(summary)),
        *(("warning", text) for text in summary.warnings),
        *(("note", text) for text in summary.notes),
    ]
    if options.dry_run:
        rows.append(("written", "nothing (--dry-run)"))
    else:
        folders = "volumes/, labels/, foreground/, masks/" if is_volumes else "masks/"
        extra = f", nnUNet_raw/{export_name}/" if export_name else ""
        rows.append(("written", f"{options.out}: {MANIFEST_NAME}, {folders}, contact_sheet.png, report.md{extra}"))
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for title, text in rows:
        table.add_row(title, text)
    console = Console(file=sys.stdout, highlight=False, markup=False)
    console.print(table)
    if not options.dry_run:
        # Not in the table, which would wrap the line that people copy.
        for line in _next_steps(summary, layout, source, options):
            console.print(line, soft_wrap=True)


def _next_steps(summary: DatasetSummary, layout: str, source: Path, options: PrepareOptions) -> list[str]:
    """Next commands to propose: one that needs no download, then the published preset."""
    out = options.out
    training = [case for case in summary.cases if case.split == "train"]
    counts, folds = count_by_split(summary.cases), {case.fold for case in summary.cases} - {None}
    if not any(case.foreground for case in training):
        return ["next      check the masks: no training mask has foreground, so there is nothing to learn"]
    if options.instances is not None:
        own = "instances-em" if isinstance(summary, VolumeSummary) and summary.is_pictures else "instances-3d"
        if counts.get("val"):
            return [f"next      guidino train --preset {own} --data {shlex.quote(str(out))} -o RUN"]
    own = "own-unet"
    if isinstance(summary, VolumeSummary):
        # Neither takes a guide in closed form, which own-unet has.
        own = "own-gated-unet" if summary.is_pictures else "volumes-unet"
    train = f"guidino train --preset {own} --data {shlex.quote(str(out))}"
    if not counts.get("val") and folds:
        return [f"next      {train} --folds {len(folds)} -o RUNS"]
    if not counts.get("val"):
        return [_propose_split(summary, source, options)]
    if isinstance(summary, VolumeSummary) and any(facts.shape[0] > 1 for facts in summary.facts.values()):
        plan = f"guidino plan {shlex.quote(str(out))} -o PLAN.yaml, which proposes a network for patches"
        return [f"next      {train} -o RUN", f"or        {plan}"]
    published = _PRESETS.get(layout)
    hint = f"or        --preset {published} with the weights of DINOv3: guidino weights list"
    return [f"next      {train} -o RUN", *([hint] if published in preset_names() else [])]


def _propose_split(summary: DatasetSummary, source: Path, options: PrepareOptions) -> str:
    """The command that makes validation cases, if there are groups enough."""
    groups, trained = ({case.group for case in summary.cases if case.split in parts} for parts in (SPLITS, {"train"}))
    if len(groups) < 2:
        kind = "case" if len(summary.cases) == 1 else "group of cases"
        return f"next      add more data: one {kind} cannot both train and validate"
    # Folds leave the test part as it is; groups too few for that are trained and validated on.
    change = {"folds": 2} if len(trained) >= 2 else {"split": "50/50/0"}
    defaults = option_values(PrepareOptions())
    values = option_values(replace(options, **change, overwrite=True, as_json=False))
    values = {name: value for name, value in values.items() if value != defaults[name]}
    return f"next      guidino prepare {shlex.join([str(source), *to_argv(values)])}"


def _describe_duplicates(summary: DatasetSummary) -> str:
    """Describe how many images occur more than once, with the first few."""
    if not summary.duplicates:
        return "none: no image occurs twice"
    shown = "; ".join(" = ".join(group) for group in summary.duplicates[:3])
    more = "; see report.md" if len(summary.duplicates) > 3 else ""
    return f"{len(summary.duplicates)} picture(s) more than once: {shown}{more}"


def _describe_suspicions(summary: DatasetSummary) -> list[str]:
    """The masks that differ most from the others, and where the rest is named."""
    found = summary.suspicions
    lines = [f"{item.case}: {item.text}" for item in found[:_SHOWN_SUSPICIONS]]
    rest = len(found) - len(lines)
    return [*lines, *([f"and {pluralize(rest, 'more reason')}, in report.md"] if rest > 0 else [])]


def _check_paths(source: Path, options: PrepareOptions) -> None:
    out = options.out
    if out is None:
        if not options.dry_run:
            raise ConfigError("-o/--out is missing: the folder to write, or --dry-run to only look")
        return
    dry_run = options.dry_run
    is_prepared = (out / MANIFEST_NAME).is_file()
    require_output_folder(out, [source], overwrite=options.overwrite or dry_run, recognised=is_prepared or dry_run)
