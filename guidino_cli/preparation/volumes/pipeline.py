"""Prepare a data set of volumes, one in memory at a time: read and check, decide the classes, convert, split, write."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from guidino_cli.data.volumes.spacing import KEEP, Target, format_spacing, target_spacing
from guidino_cli.errors import DataError
from guidino_cli.preparation.checks import Finding, check_foreground, check_names, format_items
from guidino_cli.preparation.duplicates import connected_components, find_exact_duplicates
from guidino_cli.preparation.options import PreparationConfig
from guidino_cli.preparation.problems import raise_on_problems
from guidino_cli.preparation.report import describe_missing_classes
from guidino_cli.preparation.separation import split_without_leaks
from guidino_cli.preparation.splits import SplitResult
from guidino_cli.preparation.types import DiscoveredDataset
from guidino_cli.preparation.volumes.finishing import finish_volume, make_case, measure_foreground
from guidino_cli.preparation.volumes.labels import LabelTable, decide_labels, refuse_unknown
from guidino_cli.preparation.volumes.report import VolumeSummary
from guidino_cli.preparation.volumes.staging import StagedVolume, remove_unused, stage_volume
from guidino_cli.preparation.volumes.writing import write_volumes
from guidino_cli.progress import pluralize, track

_ONE_SLICE = 1


def prepare_volumes(
    source: Path, dataset: DiscoveredDataset, config: PreparationConfig, folder: Path | None
) -> tuple[VolumeSummary, list[Finding]]:
    """Prepare a data set of volumes.

    Args:
        source: Folder, for messages.
        dataset: The files to prepare.
        config: Validated options.
        folder: Folder to write, or None to write nothing.

    Returns:
        The summary, and the findings about bad cases that were skipped.

    Raises:
        DataError: Problems that the options do not allow to skip.
    """
    config = config.with_ignore_label(dataset.ignore_label)
    config = replace(config, volumes=config.volumes.on_channel_of(dataset.channels))
    findings = check_names(dataset, allow_unpaired=config.options.allow_unpaired)
    findings += _refuse_several_masks(dataset)
    facts, bad = _stage_all(dataset, config, folder)
    findings += bad
    if not facts:
        raise_on_problems(source, findings, config)
        raise DataError(f"{source}: no usable volume with a mask")
    table = _decide_table(source, facts, dataset, config, findings)
    findings += _refuse_unknown_labels(facts, table)
    raise_on_problems(source, findings, config)
    left_out = {finding.case for finding in findings if finding.kind == "bad"}
    facts = {case: item for case, item in facts.items() if case not in left_out}
    if not facts:
        raise DataError(f"{source}: no usable volume with a mask")
    voxels = {case: table.count(item.voxels) for case, item in facts.items()}
    findings += _describe_volumes(facts, dataset, config) + check_foreground(voxels, unit="voxel")
    findings += _describe_ignored(facts, table)
    duplicates = _find_duplicates(facts)
    splits = split_without_leaks([item.pair for item in facts.values()], duplicates, dataset, config)
    target, rule = _choose_spacing(facts, splits, config)
    if folder is not None:
        progress = track(facts.items(), total=len(facts), description="converting")
        facts = {case: finish_volume(item, table, target, config.volumes, folder) for case, item in progress}
        remove_unused(folder, facts.keys())
    cases = [make_case(pair, facts[pair.id], table, config.volumes, folder or Path()) for pair in splits.pairs]
    training = [case for case in cases if case.split == "train"]
    statistics = () if folder is None else measure_foreground(training, len(dataset.channels))
    findings += [Finding("warning", text) for text in splits.warnings]
    findings += [Finding("note", text) for text in splits.notes]
    summary = VolumeSummary(
        name=config.name,
        layout=f"{dataset.layout}: {dataset.evidence}",
        mask_rule=table.why,
        split_rule=splits.rule,
        classes=table.names,
        cases=cases,
        pixels=voxels,
        values=_tabulate(facts),
        duplicates=duplicates,
        suspicions=(),
        warnings=[finding.text for finding in findings if finding.kind in {"warning", "bad"}],
        notes=[finding.text for finding in findings if finding.kind == "note"],
        facts=facts,
        channels=dataset.channels,
        spacing_mm=target,
        statistics=statistics,
        spacing_rule=rule,
    )
    summary = replace(summary, warnings=[*summary.warnings, *describe_missing_classes(summary, unit="voxel")])
    if folder is not None:
        write_volumes(summary, dataset, table, config, folder)
    return summary, [finding for finding in findings if finding.kind == "bad"]


def _refuse_several_masks(dataset: DiscoveredDataset) -> list[Finding]:
    several = [pair for pair in dataset.pairs if len(pair.masks) > 1]
    if not several:
        return []
    names = ", ".join(path.name for path in several[0].masks[:5])
    return [
        Finding(
            "error",
            f"{pluralize(len(several), 'volume')} with several masks, expected one ({several[0].id} has {names}): "
            "choose with --mask-suffix, or save one file with a number for each class",
        )
    ]


def _stage_all(
    dataset: DiscoveredDataset, config: PreparationConfig, folder: Path | None
) -> tuple[dict[str, StagedVolume], list[Finding]]:
    """Read all volumes, one after the other: facts of those that can be used, findings about the others."""
    facts: dict[str, StagedVolume] = {}
    findings = []
    pairs = [pair for pair in dataset.pairs if len(pair.masks) == 1]
    for pair in track(pairs, total=len(pairs), description="reading"):
        try:
            facts[pair.id] = stage_volume(pair, len(dataset.channels), config.volumes, folder)
        except DataError as error:
            findings.append(Finding("bad", str(error), pair.id))
    return facts, findings


def _decide_table(
    source: Path,
    facts: dict[str, StagedVolume],
    dataset: DiscoveredDataset,
    config: PreparationConfig,
    findings: Sequence[Finding],
) -> LabelTable:
    try:
        return decide_labels([item.voxels for item in facts.values()], dataset, config)
    except DataError as error:
        raise_on_problems(source, [*findings, Finding("error", f"{source}: {error}")], config)
        raise


def _refuse_unknown_labels(facts: dict[str, StagedVolume], table: LabelTable) -> list[Finding]:
    findings = []
    for case, item in facts.items():
        try:
            refuse_unknown(table, item.voxels)
        except DataError as error:
            findings.append(Finding("bad", f"{item.pair.masks[0]}: {error}", case))
    return findings


def _describe_volumes(
    facts: dict[str, StagedVolume], dataset: DiscoveredDataset, config: PreparationConfig
) -> list[Finding]:
    """Remarks on the volumes: what their reading changed, volumes of one slice, lost numbers, unnamed CT."""
    findings = [Finding("note", f"{case}: {note}") for case, item in facts.items() for note in item.notes]
    single = [case for case, item in facts.items() if item.grid.shape[0] == _ONE_SLICE and not item.grid.is_picture]
    nonfinite = [case for case, item in facts.items() if item.nonfinite]
    turned = {item.grid.orientation or "unknown" for item in facts.values()}
    if len(turned) > 1:
        text = f"axes of the files point in {len(turned)} ways ({', '.join(sorted(turned))}); all are stored alike"
        findings.append(Finding("note", text))
    if single:
        findings.append(Finding("note", f"{pluralize(len(single), 'volume')} of one slice: {format_items(single)}"))
    if nonfinite:
        count = sum(facts[case].nonfinite for case in nonfinite)
        text = f"{pluralize(count, 'voxel')} of {format_items(nonfinite)} are NaN or infinite"
        findings.append(Finding("warning", f"{text}: the smallest number of the volume takes their place"))
    unnamed = dataset.channels[0].upper() in {"IMAGE", "CHANNEL_0"}
    if unnamed and all(item.is_hu for item in facts.values()):
        others = "".join(f",{name}" for name in dataset.channels[1:])
        text = "values look like Hounsfield units: --channels CT" + others
        findings.append(Finding("warning", f"{text} makes one scale of all volumes instead of one for each"))
    return findings


def _describe_ignored(facts: dict[str, StagedVolume], table: LabelTable) -> list[Finding]:
    if table.ignored is None:
        return []
    counts = [item.voxels.get(table.ignored, 0) for item in facts.values()]
    cases = sum(count > 0 for count in counts)
    if not cases:
        return [Finding("warning", f"no mask has a voxel of the ignore label, {table.ignored}")]
    voxels = f"{pluralize(sum(counts), 'voxel')} of {pluralize(cases, 'volume')}"
    return [Finding("note", f"{voxels} do not count (ignore label {table.ignored})")]


def _find_duplicates(facts: dict[str, StagedVolume]) -> list[list[str]]:
    hashes = [f"{case}" if item.record is None else item.record.sha256 for case, item in facts.items()]
    return connected_components(list(facts), find_exact_duplicates(hashes))


def _choose_spacing(
    facts: dict[str, StagedVolume], splits: SplitResult, config: PreparationConfig
) -> tuple[Target, str]:
    """Target along Z, Y, X, and the rule in words."""
    chosen = config.volumes.spacing_mm
    if chosen is not None:
        return chosen, "as it is" if chosen == KEEP else f"{format_spacing(chosen)} mm (z, y, x)"
    training = [facts[pair.id] for pair in splits.pairs if pair.split == "train"]
    target = target_spacing([item.grid.spacing_mm for item in training], [item.cropped for item in training])
    return target, f"{format_spacing(target)} mm (z, y, x) by nnU-Net's rule"


def _tabulate(facts: dict[str, StagedVolume]) -> list[tuple[str, int, int]]:
    """Values of all masks as (value, voxels, files), most voxels first."""
    voxels: dict[int, int] = {}
    files: dict[int, int] = {}
    for item in facts.values():
        for value, count in item.voxels.items():
            voxels[value] = voxels.get(value, 0) + count
            files[value] = files.get(value, 0) + 1
    return [(str(value), voxels[value], files[value]) for value in sorted(voxels, key=lambda v: (-voxels[v], v))]
