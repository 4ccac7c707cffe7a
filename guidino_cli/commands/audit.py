"""`guidino audit`: list the masks of a prepared data folder that are probably wrong, worst first."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from guidino_cli.commands.audit_report import AuditReport, print_report, write_report
from guidino_cli.data.cases import IGNORED, read_pair
from guidino_cli.data.file_records import require_unchanged_files
from guidino_cli.data.manifest import Manifest, load_manifest, require_cases
from guidino_cli.data.masks.statistics import region_statistics
from guidino_cli.engine.devices import pick_device
from guidino_cli.engine.guides.agreement import (
    TokenSpool,
    agreement,
    assign_folds,
    cell_shares,
    grid_tokens,
    held_out_scores,
)
from guidino_cli.engine.guides.shifts import Shift, find_shift
from guidino_cli.errors import ConfigError, DataError, GateError, PartialError
from guidino_cli.models import build_backbone
from guidino_cli.models.base import Backbone
from guidino_cli.options.data import AuditOptions
from guidino_cli.outputs import require_output_folder
from guidino_cli.preparation.mask_audit import MaskStatistics
from guidino_cli.preparation.mask_ranking import rank_masks
from guidino_cli.progress import join_first, log_info, pluralize, track
from guidino_cli.types import Case

_MAX_CLASSES = 20
"""With more classes their union is compared with the image: the memory grows with the number of classes."""


@dataclass
class Measured:
    """Masks and statistics of the cases, in their order.

    Attributes:
        cases: Cases that could be read.
        masks: Case id -> statistics of each class.
        shares: (T, N) of each case: share of each cell of the grid in each compared region.
        failed: Messages about the other cases.
    """

    cases: list[Case] = field(default_factory=list)
    masks: dict[str, MaskStatistics] = field(default_factory=dict)
    shares: list[np.ndarray] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def run(data: Path, options: AuditOptions) -> None:
    """Compare each mask with the others and with its image; print the worst and write the whole list.

    Raises:
        DataError: No case has a mask, or none can be read.
        PartialError: Some cases cannot be read; the others are compared.
        GateError: With `strict`, a mask is certainly wrong or masks are shifted.
    """
    manifest = load_manifest(data)
    if manifest.is_volumes:
        raise DataError(
            f"{data}: holds volumes, and audit compares images with their masks; look at contact_sheet.png and the "
            "table of volumes in report.md, which `guidino prepare` wrote"
        )
    cases = _choose_cases(manifest, options.split, data)
    if options.out is not None:
        require_output_folder(options.out, [data], overwrite=options.overwrite, may_be_nested=True)
    require_unchanged_files(cases, data, only_warn=True)
    backbone = _load_backbone(options)
    regions = _compared_regions(manifest.classes)
    with tempfile.TemporaryFile(prefix="guidino-") as file:
        tokens = TokenSpool(file)
        measured = _measure(cases, manifest.classes, regions, backbone, tokens)
        if not measured.cases:
            raise DataError(f"{data}: none of {pluralize(len(cases), 'case')} can be read: {measured.failed[0]}")
        agreements, shift = _compare(measured, regions, tokens) if backbone is not None else ({}, None)
    report = AuditReport(
        manifest=manifest,
        split=options.split,
        cases={case.id: case for case in measured.cases},
        ranking=rank_masks(measured.masks, manifest.classes, agreements),
        masks=measured.masks,
        shift="" if shift is None else _describe_shift(shift, measured.cases),
        failed=measured.failed,
        backbone="" if backbone is None else f"{options.backbone}: {backbone.identity['weights']}",
    )
    if options.out is not None:
        write_report(report, options.out)
    print_report(report, show=options.show, out=options.out, data=data)
    _finish(report, total=len(cases), strict=options.strict)


def _choose_cases(manifest: Manifest, split: str, data: Path) -> Sequence[Case]:
    if split not in {"train", "val", "test", "all"}:
        raise ConfigError(f"--split {split}: expected train, val, test or all")
    chosen = manifest.cases if split == "all" else manifest.select(split)
    labelled = [case for case in require_cases(chosen, split, data) if case.mask is not None]
    if not labelled:
        raise DataError(f"{data}: no case of the {split} split has a mask; an audit compares masks")
    return labelled


def _load_backbone(options: AuditOptions) -> Backbone | None:
    if options.backbone == "none":
        return None
    given = {"weights": options.weights, "layers": None if options.layer is None else [options.layer]}
    arguments = {key: value for key, value in given.items() if value is not None}
    backbone: Backbone = build_backbone(options.backbone, arguments, offline=options.offline, frozen=True)
    backbone.freeze()
    return backbone.to(pick_device(options.device))


def _compared_regions(classes: Sequence[str]) -> list[str]:
    """Names of the regions that are compared with the image: each class, or the foreground if there are many."""
    return list(classes[1:]) if len(classes) <= _MAX_CLASSES + 1 else ["foreground"]


def _measure(
    cases: Sequence[Case],
    classes: Sequence[str],
    regions: Sequence[str],
    backbone: Backbone | None,
    tokens: TokenSpool,
) -> Measured:
    """Read all cases; one that cannot be read is reported and left out."""
    result = Measured()
    for case in track(cases, total=len(cases), description="audit"):
        try:
            pixels, labels = read_pair(case, num_classes=len(classes))
            labels = np.where(labels == IGNORED, 0, labels)
        except DataError as error:
            result.failed.append(str(error))
            log_info(f"guidino: {error}")
            continue
        if backbone is not None:
            tokens.append(grid_tokens(backbone, pixels))
            by_class = len(regions) == len(classes) - 1
            masks = [labels == index for index in range(1, len(classes))] if by_class else [labels > 0]
            result.shares.append(np.stack([cell_shares(mask) for mask in masks]))
        result.cases.append(case)
        result.masks[case.id] = region_statistics(labels, len(classes))
    return result


def _compare(
    measured: Measured, regions: Sequence[str], tokens: TokenSpool
) -> tuple[dict[str, tuple[float, str]], Shift | None]:
    """Lowest agreement of each case with its class, and a shift of the masks."""
    folds = assign_folds([case.group for case in measured.cases])
    if len(set(folds.tolist())) < 2:
        return {}, None
    shares = np.stack(measured.shares)
    scores = held_out_scores(tokens, shares, folds)
    agreements = {}
    for position, case in enumerate(measured.cases):
        fits = [(agreement(scores[position, i], shares[position, i]), name) for i, name in enumerate(regions)]
        known = [fit for fit in fits if not np.isnan(fit[0])]
        if known:
            agreements[case.id] = min(known)
    return agreements, find_shift(tokens, shares.sum(axis=1).clip(0, 1), folds)


def _describe_shift(shift: Shift, cases: Sequence[Case]) -> str:
    first, last = cases[shift.start].id, cases[shift.stop - 1].id
    neighbour = "after" if shift.step > 0 else "before"
    return (
        f"masks shifted by one? From {first} to {last}, {shift.better} of {shift.stop - shift.start} images fit the "
        f"mask of the case {neighbour} them better than their own (agreement {shift.other:.2f}, own {shift.own:.2f})"
    )


def _finish(report: AuditReport, *, total: int, strict: bool) -> None:
    certain = [item.case for item in report.ranking if item.is_certain]
    if strict and (certain or report.shift):
        found = [f"{pluralize(len(certain), 'mask')} certainly wrong ({join_first(certain)})"] if certain else []
        raise GateError("; ".join([*found, *([report.shift] if report.shift else [])]))
    if report.failed:
        failed = join_first(report.failed, "; ")
        raise PartialError(f"{len(report.failed)} of {pluralize(total, 'case')} cannot be read: {failed}")
