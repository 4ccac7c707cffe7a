"""Split cases into train, val and test: seeded, by group, independent of the order of the files."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from guidino_cli.errors import ConfigError, DataError
from guidino_cli.preparation.generic_layouts import read_group_table
from guidino_cli.preparation.types import ImageMaskPair
from guidino_cli.progress import join_first, pluralize

Ratios = tuple[float, float, float]
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class SplitResult:
    """Cases with their splits.

    Attributes:
        pairs: Every pair has a split; with folds, those of train and val also a fold.
        rule: How the split was made, in one sentence.
        warnings: Remarks for the user, such as a missing test split.
        notes: Decisions that the user may want to know of.
    """

    pairs: list[ImageMaskPair]
    rule: str
    warnings: list[str]
    notes: list[str] = field(default_factory=list)


def parse_ratios(text: str) -> Ratios:
    """Parse `70/10/20` (train, val, test; any scale) into shares that sum to 1.

    Raises:
        ConfigError: Not three numbers, a negative one, or no training share.
    """
    numbers = text.split("/")
    if len(numbers) != 3 or not all(re.fullmatch(r"\d+(\.\d+)?", number.strip()) for number in numbers):
        raise ConfigError(f"--split {text}: expected three shares for train, val and test, such as 70/10/20")
    train, val, test = (float(number) for number in numbers)
    if train <= 0:
        raise ConfigError(f"--split {text}: the training share is 0, expected a positive one")
    total = train + val + test
    return train / total, val / total, test / total


def assign_groups(pairs: Sequence[ImageMaskPair], group_by: str | None) -> list[ImageMaskPair]:
    """Assign each pair its group: from a CSV (case, group), by a pattern on the id, or its own id.

    Args:
        pairs: From a layout; a group that the layout gave is kept unless `group_by` is given.
        group_by: Path of a CSV file, or a regular expression whose first group (or whole match) names the group.

    Raises:
        ConfigError: Not a regular expression.
        DataError: Cases without a group; lists ten.
    """
    if group_by is None:
        return [replace(pair, group=pair.group or pair.id) for pair in pairs]
    if group_by.lower().endswith((".csv", ".tsv")):
        table = read_group_table(Path(group_by))
        groups = {pair.id: table.get(pair.id) or table.get(pair.images[0].name) for pair in pairs}
    else:
        pattern = _compile_pattern(group_by)
        matches = {pair.id: pattern.search(pair.id) for pair in pairs}
        index = 1 if pattern.groups else 0
        groups = {case: match and match.group(index) for case, match in matches.items()}
    ungrouped = [case for case, group in groups.items() if not group]
    if ungrouped:
        raise DataError(
            f"--group-by {group_by}: no group for {pluralize(len(ungrouped), 'case')}: {', '.join(ungrouped[:10])}"
        )
    return [replace(pair, group=groups[pair.id]) for pair in pairs]


def split_cases(
    pairs: Sequence[ImageMaskPair], *, ratios: Ratios | None, official: str, seed: int, folds: int | None
) -> SplitResult:
    """Assign every pair its split, the official one or by seeded shares of groups.

    Where only some cases lie in an official part, test cases stay test and the others are for training: images of an
    official test part must not be trained on.

    Args:
        pairs: With groups; official splits and folds where the layout knew them.
        ratios: Shares that the user gave; None takes the official split, or 70/10/20 without one.
        official: Where the official split comes from, or "".
        seed: Random seed of the assignment.
        folds: Number of cross-validation folds over train and val, or None.

    Raises:
        DataError: Fewer groups than folds.
    """
    present = {pair.split for pair in pairs}
    use_official = ratios is None and bool(present & {"train", None}) and bool(present & {"val", "test"})
    if use_official:
        result = _use_official_split(pairs, official, seed)
    else:
        result = _split_by_seed(pairs, ratios or (0.7, 0.1, 0.2), seed)
        if official and ratios is not None:
            result.warnings.append(f"the official parts ({official}) are not used, because --split was given")
        elif official:
            only = ", ".join(sorted(part for part in present if part))
            result.warnings.append(f"the official parts hold only {only}; all cases are split anew")
    return result if folds is None else _add_folds(result, folds, seed)


def stratified_group_split(pairs: Sequence[ImageMaskPair], shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """Distribute groups over splits so that each split gets its share of the cases of each stratum.

    Groups are assigned largest first, then in the order of a hash of seed and name, each to the split that lacks most
    cases. The result depends only on the set of cases and the seed.

    Args:
        pairs: With groups.
        shares: Split -> share; the shares sum to 1.
        seed: Any integer.

    Returns:
        Case id -> split.
    """
    groups: dict[str, list[ImageMaskPair]] = {}
    for pair in sorted(pairs, key=lambda pair: pair.id):
        groups.setdefault(pair.group or pair.id, []).append(pair)
    strata: dict[str, list[str]] = {}
    for name, members in groups.items():
        strata.setdefault(members[0].stratum, []).append(name)
    part_of: dict[str, str] = {}
    lack = dict.fromkeys(shares, 0.0)
    for _, names in sorted(strata.items()):
        total = sum(len(groups[name]) for name in names)
        for part, share in shares.items():
            lack[part] += share * total
        for name in sorted(names, key=lambda name: (-len(groups[name]), _shuffle_key(name, seed))):
            # Later strata make up for the rounding of earlier ones.
            part = max(shares, key=lambda part: lack[part] if shares[part] else float("-inf"))
            lack[part] -= len(groups[name])
            part_of |= {pair.id: part for pair in groups[name]}
    return part_of


def _split_by_seed(pairs: Sequence[ImageMaskPair], ratios: Ratios, seed: int) -> SplitResult:
    shares = dict(zip(SPLITS, ratios, strict=True))
    part_of = stratified_group_split(pairs, shares, seed)
    assigned = [replace(pair, split=part_of[pair.id], fold=None) for pair in pairs]
    groups = len({pair.group for pair in pairs})
    by = "cases" if groups == len(pairs) else pluralize(groups, "group")
    rule = f"seeded split of {by}, {'/'.join(f'{100 * share:g}' for share in ratios)}, seed {seed}"
    empty = [part for part in SPLITS if shares[part] and part not in set(part_of.values())]
    return SplitResult(assigned, rule, [f"too few for a {part} part: {pluralize(groups, 'group')}" for part in empty])


def _use_official_split(pairs: Sequence[ImageMaskPair], official: str, seed: int) -> SplitResult:
    warnings: list[str] = []
    notes: list[str] = []
    present = {pair.split for pair in pairs}
    rule = f"official parts: {official}"
    others = sum(pair.split is None for pair in pairs)
    if others:
        parts = join_first([part for part in SPLITS if part in present], " and ")
        notes.append(f"{pluralize(others, 'case')} in no official part (there is only {parts}): used for training")
        rule += f"; cases in none of them ({others}) are train"
        pairs = [replace(pair, split=pair.split or "train") for pair in pairs]
    assigned = list(pairs)
    if "val" not in present:
        train = [pair for pair in pairs if pair.split == "train"]
        part_of = stratified_group_split(train, {"train": 0.875, "val": 0.125}, seed)
        assigned = [replace(pair, split=part_of.get(pair.id, pair.split)) for pair in pairs]
        rule += f"; val is a seeded eighth of train, seed {seed}"
        if "val" not in part_of.values():
            warnings.append(f"too few for a val part: {pluralize(len({pair.group for pair in train}), 'group')}")
    if "test" not in present:
        warnings.append("there is no official test part: scores on val are of images that chose the checkpoint")
    shared = _find_leaking_groups(assigned)
    if shared:
        warnings.append(f"{pluralize(len(shared), 'group')} in more than one official part: {', '.join(shared[:10])}")
    return SplitResult(assigned, rule, warnings, notes)


def _find_leaking_groups(pairs: Sequence[ImageMaskPair]) -> list[str]:
    splits: dict[str, set[str | None]] = {}
    for pair in pairs:
        splits.setdefault(pair.group or pair.id, set()).add(pair.split)
    return sorted(group for group, names in splits.items() if len(names) > 1)


def _add_folds(result: SplitResult, folds: int, seed: int) -> SplitResult:
    pool = [pair for pair in result.pairs if pair.split != "test"]
    groups = len({pair.group for pair in pool})
    if groups < folds:
        test = len({pair.group for pair in result.pairs} - {pair.group for pair in pool})
        hint = f"; {pluralize(test, 'group')} in test: --split 100/0/0 leaves none there" if test else ""
        raise DataError(
            f"--folds {folds}: train and val hold {pluralize(groups, 'group')}, expected at least one a fold{hint}"
        )
    part_of = stratified_group_split(pool, {str(fold): 1 / folds for fold in range(folds)}, seed)
    assigned = [replace(pair, fold=int(part_of[pair.id]) if pair.id in part_of else None) for pair in result.pairs]
    rule = f"{result.rule}; {pluralize(folds, 'fold')} over train and val, seed {seed}"
    return replace(result, pairs=assigned, rule=rule)


def _shuffle_key(name: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()


def _compile_pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise ConfigError(f"--group-by {text}: not a regular expression ({error})") from error
