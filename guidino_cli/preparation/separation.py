"""Keep cases that show one picture in one part of a split."""

from collections.abc import Sequence
from dataclasses import replace

from guidino_cli.preparation.duplicates import merge_groups
from guidino_cli.preparation.options import PreparationConfig
from guidino_cli.preparation.splits import SplitResult, assign_groups, split_cases
from guidino_cli.preparation.types import DiscoveredDataset, ImageMaskPair
from guidino_cli.progress import join_first, pluralize

_MAX_SHOWN_DUPLICATES = 3


def split_without_leaks(
    pairs: Sequence[ImageMaskPair],
    duplicates: Sequence[Sequence[str]],
    dataset: DiscoveredDataset,
    config: PreparationConfig,
) -> SplitResult:
    """Split with duplicates kept together; official splits are kept, with a warning about duplicates across them."""
    grouped = assign_groups(pairs, config.options.group_by)
    merged = merge_groups({pair.id: pair.group or pair.id for pair in grouped}, duplicates)
    grouped = [replace(pair, group=merged[pair.id]) for pair in grouped]
    result = split_cases(
        grouped, ratios=config.ratios, official=dataset.official, seed=config.options.seed, folds=config.options.folds
    )
    split_of = {pair.id: pair.split for pair in result.pairs}
    across = [cases for cases in duplicates if len({split_of[case] for case in cases}) > 1]
    if across:
        shown = [" = ".join(f"{case} ({split_of[case]})" for case in cases) for cases in across]
        count = pluralize(len(across), "picture is", "pictures are")
        more = "; report.md names all" if len(across) > _MAX_SHOWN_DUPLICATES else ""
        result.warnings.append(
            f"{count} in several parts: {join_first(shown, '; ', limit=_MAX_SHOWN_DUPLICATES)}{more}"
        )
    return result
