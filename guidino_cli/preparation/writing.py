"""A prepared data set as files: images, manifest, report, contact sheet, and nnU-Net's folders on request."""

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from guidino_cli import __version__
from guidino_cli.data.images import read_image
from guidino_cli.data.manifest import Manifest, save_manifest
from guidino_cli.data.masks.rule import MaskRule
from guidino_cli.files import write_atomically, write_text
from guidino_cli.preparation.contact_sheet import write_sheet
from guidino_cli.preparation.found import Found, Pair
from guidino_cli.preparation.nnunet import export
from guidino_cli.preparation.options import Options
from guidino_cli.preparation.report import Summary, count_parts, to_markdown
from guidino_cli.preparation.threads import in_threads
from guidino_cli.types import Case


def write(
    summary: Summary, folder: Path, found: Found, rule: MaskRule, options: Options, pairs: dict[str, Pair]
) -> None:
    """Write what is prepared into a folder that holds the masks already."""
    own = [case for case in summary.cases if case.image.is_relative_to(folder)]
    in_threads(lambda case: _write_image(case, pairs[case.id]), own, "copying images")
    manifest = Manifest(
        options.name, list(summary.classes), list(summary.cases), _source(summary, found, rule, options)
    )
    save_manifest(manifest, folder)
    write_text(folder / "report.md", to_markdown(summary))
    write_sheet(summary, folder)
    if options.export_name:
        export(
            manifest,
            folder / "nnUNet_raw" / options.export_name,
            each=lambda function, cases: in_threads(function, cases, "exporting"),
        )


def _write_image(case: Case, pair: Pair) -> None:
    """Copy an image as it is, or merge its channel files to one RGB PNG."""
    if len(pair.images) == 1:
        write_atomically(case.image, lambda place: shutil.copyfile(pair.images[0], place))
        return
    channels = [read_image(path)[0][..., 0] for path in pair.images]
    channels += [np.zeros_like(channels[0])] * (3 - len(channels))
    image = Image.fromarray(np.stack(channels, axis=2))
    write_atomically(case.image, lambda place: image.save(place, compress_level=3))


def _source(summary: Summary, found: Found, rule: MaskRule, options: Options) -> dict[str, object]:
    return {
        "guidino": __version__,
        "layout": found.layout,
        "layout_evidence": found.evidence,
        "mask_rule": rule.kind,
        "mask_threshold": rule.threshold if rule.kind == "threshold" else None,
        "mask_evidence": rule.sentence,
        "split_rule": summary.split_rule,
        "seed": options.seed,
        "group_by": options.group_by,
        "counts": count_parts(summary.cases),
        "duplicates": [list(group) for group in summary.duplicates],
        "warnings": list(summary.warnings),
        "notes": list(summary.notes),
    }
