"""Summary of a prepared data set, and its report in Markdown (report.md)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from guidino_cli.data.masks.values import Histogram
from guidino_cli.preparation.mask_audit import Suspicion
from guidino_cli.preparation.splits import SPLITS
from guidino_cli.progress import pluralize
from guidino_cli.types import Case, width_by_height


@dataclass(frozen=True)
class DatasetSummary:
    """Contents of the report and of the summary on the console.

    Attributes:
        name: Name of the data set.
        layout: Layout and evidence for it.
        mask_rule: Mapping of mask values to classes, and why.
        split_rule: How the split was made.
        classes: Class names by index.
        cases: Sorted by id.
        pixels: Case id -> (K,) pixels of each class that count.
        values: Values found in the masks before conversion, most frequent first, as (value, pixels, files).
        duplicates: Groups of cases that show one picture.
        suspicions: Masks that differ from the others, worst first.
        warnings: Remarks that need attention.
        notes: Other remarks.
    """

    name: str
    layout: str
    mask_rule: str
    split_rule: str
    classes: Sequence[str]
    cases: Sequence[Case]
    pixels: Mapping[str, np.ndarray]
    values: Sequence[tuple[str, int, int]]
    duplicates: Sequence[Sequence[str]]
    suspicions: Sequence[Suspicion]
    warnings: Sequence[str]
    notes: Sequence[str]


def count_by_split(cases: Sequence[Case]) -> dict[str, int]:
    """Number of cases in train, val and test."""
    return {part: sum(case.split == part for case in cases) for part in SPLITS}


def class_shares(summary: DatasetSummary, split: str | None = None) -> np.ndarray:
    """Share of each class in the pixels that count, in one split or overall: (K,) in [0, 1], zeros without cases."""
    rows = [summary.pixels[case.id] for case in summary.cases if split in {None, case.split}]
    total = np.sum(rows, axis=0) if rows else np.zeros(len(summary.classes))
    return np.asarray(total / max(total.sum(), 1))


def describe_missing_classes(summary: DatasetSummary, *, unit: str = "pixel") -> list[str]:
    """Warn of classes without pixels in a split; of those that no mask has, once."""
    texts = []
    anywhere = class_shares(summary) > 0
    for split, count in count_by_split(summary.cases).items():
        shares = class_shares(summary, split)
        absent = [summary.classes[index] for index, share in enumerate(shares) if share == 0 and anywhere[index]]
        if count and absent:
            texts.append(f"{split} has no {unit} of {', '.join(absent)}")
    nowhere = [name for name, is_there in zip(summary.classes, anywhere, strict=True) if not is_there]
    # Other findings say that there is no background, or nothing else.
    if nowhere and summary.classes[0] not in nowhere and len(nowhere) < len(summary.classes) - 1:
        texts.append(f"no mask has a {unit} of {', '.join(nowhere)}")
    return texts


def format_sizes(cases: Sequence[Case]) -> str:
    """Format image sizes, width x height: `512x512`, or `333 sizes, from 332x487 to 1920x1072`."""
    sizes = sorted({case.size_hw for case in cases}, key=lambda size: size[0] * size[1])
    if len(sizes) == 1:
        return f"all {width_by_height(sizes[0])}"
    return f"{len(sizes)} sizes, from {width_by_height(sizes[0])} to {width_by_height(sizes[-1])}"


def tabulate_values(histograms: Sequence[Histogram]) -> list[tuple[str, int, int]]:
    """Count mask values over all files as (value, pixels, files), most pixels first."""
    pixels: Counter[str] = Counter()
    files: Counter[str] = Counter()
    for item in histograms:
        for value, count in zip(item.values, item.counts, strict=True):
            text = f"#{int(value):06x}" if item.kind == "colour" else f"{value:g}"
            text = {"0": "false", "1": "true"}[text] if item.kind == "bool" else text
            pixels[text] += count
            files[text] += 1
    return [(text, count, files[text]) for text, count in pixels.most_common()]


def to_markdown(summary: DatasetSummary) -> str:
    """Format the report as Markdown."""
    sections = [
        f"# {summary.name}",
        f"![A sample of the images with their masks outlined](contact_sheet.png)\n\n{_overview(summary)}",
        f"## Warnings\n\n{bullet_list(summary.warnings)}",
        f"## Masks to look at\n\n{_suspicions(summary)}",
        f"## Cases\n\n{cases_table(summary)}",
        f"## Values in the masks as they came\n\n{summary.mask_rule}.\n\n{values_table(summary)}",
        f"## Images that show one picture\n\n{describe_duplicates(summary)}",
        f"## Notes\n\n{bullet_list(summary.notes)}",
    ]
    return "\n\n".join(sections) + "\n"


def _overview(summary: DatasetSummary) -> str:
    return overview(summary, noun="case", sizes=f"{format_sizes(summary.cases)} pixels (width x height)")


def overview(summary: DatasetSummary, *, noun: str, sizes: str, more: Sequence[str] = ()) -> str:
    """The first lines of a report.

    Args:
        summary: Summary of the data set.
        noun: What a case is.
        sizes: Sizes of the cases, in words.
        more: Further lines, after the layout.
    """
    folds = sorted({case.fold for case in summary.cases if case.fold is not None})
    groups = len({case.group for case in summary.cases})
    return "\n".join(
        [
            f"- {pluralize(len(summary.cases), noun)} in {pluralize(groups, 'group')}, {sizes}",
            f"- layout: {summary.layout}",
            *(f"- {line}" for line in more),
            f"- masks: {summary.mask_rule}",
            f"- split: {summary.split_rule}{f'; folds {folds[0]}..{folds[-1]}' if folds else ''}",
            f"- classes: {', '.join(f'{index} {name}' for index, name in enumerate(summary.classes))}",
        ]
    )


def cases_table(summary: DatasetSummary, *, unit: str = "pixels") -> str:
    """Cases, empty masks and share of each class, one part of the split per line."""
    names = "".join(f" {name} |" for name in summary.classes)
    lines = [f"| part | cases | empty masks |{names}", "|---|---:|---:|" + "---:|" * len(summary.classes)]
    for part, count in count_by_split(summary.cases).items():
        empty = sum(case.split == part and case.foreground == 0 for case in summary.cases)
        shares = "".join(f" {100 * share:.2f} % |" for share in class_shares(summary, part)) if count else ""
        lines.append(f"| {part} | {count} | {empty} |{shares or ' |' * len(summary.classes)}")
    return "\n".join([*lines, "", f"The shares are of all {unit} of the part that count."])


def values_table(summary: DatasetSummary, *, unit: str = "pixels", limit: int = 20) -> str:
    """Values in the masks before conversion, most frequent first."""
    total = max(sum(count for _, count, _ in summary.values), 1)
    lines = [f"| value | share of {unit} | files |", "|---:|---:|---:|"]
    lines += [f"| {text} | {100 * count / total:.4f} % | {files} |" for text, count, files in summary.values[:limit]]
    rest = len(summary.values) - limit
    return "\n".join(lines + ([f"\nand {rest} more values."] if rest > 0 else []))


def describe_duplicates(
    summary: DatasetSummary, *, none: str = "None found (equal files, or difference hashes within 8 of 256 bits)."
) -> str:
    """Cases that show one picture, one group per line, or the sentence `none`."""
    if not summary.duplicates:
        return none
    split_of = {case.id: case.split for case in summary.cases}
    return "\n".join("- " + ", ".join(f"{case} ({split_of[case]})" for case in group) for group in summary.duplicates)


def _suspicions(summary: DatasetSummary, *, limit: int = 50) -> str:
    if not summary.suspicions:
        return "None: no mask differs much from the others in area, contact with the border or number of parts."
    lines = [f"- {item.case}: {item.text}" for item in summary.suspicions[:limit]]
    rest = len(summary.suspicions) - limit
    lines += [f"- and {rest} more"] if rest > 0 else []
    return "\n".join([*lines, "", "Worst first. `guidino audit` also compares the masks with the images."])


def bullet_list(lines: Sequence[str]) -> str:
    """The lines as a list, or "None."."""
    return "\n".join(f"- {line}" for line in lines) or "None."
