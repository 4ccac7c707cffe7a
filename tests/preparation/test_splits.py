"""Seeded splits by group."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from guidino_cli.errors import ConfigError, DataError
from guidino_cli.preparation.splits import assign_groups, parse_ratios, split_cases, stratified_group_split
from guidino_cli.preparation.types import ImageMaskPair


def _pairs(count: int, *, per_group: int = 1, **common: str) -> list[ImageMaskPair]:
    return [
        ImageMaskPair(f"case{index:03d}", (Path("i"),), (Path("m"),), group=f"patient{index // per_group}", **common)  # type: ignore[arg-type]
        for index in range(count)
    ]


def _counts(pairs: list[ImageMaskPair]) -> dict[str | None, int]:
    return dict(Counter(pair.split for pair in pairs))


def test_shares_are_met_exactly_without_groups() -> None:
    result = split_cases(_pairs(100), ratios=(0.7, 0.1, 0.2), official="", seed=0, folds=None)
    assert _counts(result.pairs) == {"train": 70, "val": 10, "test": 20}


def test_the_order_of_the_files_does_not_matter() -> None:
    shares = {"train": 0.5, "test": 0.5}
    assert stratified_group_split(_pairs(40), shares, 3) == stratified_group_split(_pairs(40)[::-1], shares, 3)


def test_another_seed_is_another_split() -> None:
    shares = {"train": 0.5, "test": 0.5}
    assert stratified_group_split(_pairs(40), shares, 0) != stratified_group_split(_pairs(40), shares, 1)


def test_a_group_is_never_split() -> None:
    part_of = stratified_group_split(_pairs(90, per_group=6), {"train": 0.7, "val": 0.1, "test": 0.2}, 0)
    for patient in range(15):
        assert len({part_of[f"case{index:03d}"] for index in range(6 * patient, 6 * patient + 6)}) == 1


def test_every_split_gets_its_share_of_each_stratum() -> None:
    rare = [replace(pair, stratum="rare") for pair in _pairs(20)]
    common = [replace(pair, id=f"c{pair.id}", group=f"c{pair.group}", stratum="common") for pair in _pairs(80)]
    part_of = stratified_group_split(rare + common, {"train": 0.5, "test": 0.5}, 0)
    assert sum(part_of[pair.id] == "test" for pair in rare) == 10


def test_the_official_split_is_kept_and_val_is_an_eighth_of_train() -> None:
    pairs = [replace(pair, split="test" if index < 20 else "train") for index, pair in enumerate(_pairs(100))]
    result = split_cases(pairs, ratios=None, official="lists", seed=0, folds=None)
    assert _counts(result.pairs) == {"train": 70, "val": 10, "test": 20}
    assert {pair.id for pair in result.pairs if pair.split == "test"} == {f"case{index:03d}" for index in range(20)}
    assert "eighth of train" in result.rule


def test_a_missing_official_test_split_is_a_warning() -> None:
    pairs = [replace(pair, split="val" if index < 3 else "train") for index, pair in enumerate(_pairs(10))]
    result = split_cases(pairs, ratios=None, official="lists", seed=0, folds=None)
    assert _counts(result.pairs) == {"val": 3, "train": 7}
    assert "no official test part" in result.warnings[0]


def test_shares_override_the_official_split_with_a_warning() -> None:
    pairs = [replace(pair, split="test" if index < 5 else "train") for index, pair in enumerate(_pairs(10))]
    result = split_cases(pairs, ratios=(0.8, 0.1, 0.1), official="lists", seed=0, folds=None)
    assert _counts(result.pairs) == {"train": 8, "val": 1, "test": 1}
    assert "not used" in result.warnings[0]


def test_a_single_official_split_is_divided_anew() -> None:
    result = split_cases(_pairs(10, split="train"), ratios=None, official="lists", seed=0, folds=None)
    assert _counts(result.pairs) == {"train": 7, "val": 1, "test": 2}
    assert "hold only train" in result.warnings[0]


def test_official_test_cases_stay_test_where_the_other_cases_have_no_part() -> None:
    pairs = [replace(pair, split="test" if index < 20 else None) for index, pair in enumerate(_pairs(100))]
    result = split_cases(pairs, ratios=None, official="folders", seed=0, folds=None)
    assert _counts(result.pairs) == {"train": 70, "val": 10, "test": 20}
    assert {pair.id for pair in result.pairs if pair.split == "test"} == {f"case{index:03d}" for index in range(20)}
    assert result.warnings == []
    assert result.notes == ["80 cases in no official part (there is only test): used for training"]


def test_cases_beside_an_official_val_part_are_train() -> None:
    pairs = [replace(pair, split="val" if index < 3 else None) for index, pair in enumerate(_pairs(10))]
    result = split_cases(pairs, ratios=None, official="folders", seed=0, folds=None)
    assert {pair.id for pair in result.pairs if pair.split == "val"} == {f"case{index:03d}" for index in range(3)}
    assert _counts(result.pairs) == {"val": 3, "train": 7}
    assert "no official test part" in result.warnings[0]


def test_folds_leave_out_an_official_test_part_beside_cases_without_one() -> None:
    pairs = [replace(pair, split="test" if index < 20 else None) for index, pair in enumerate(_pairs(100))]
    result = split_cases(pairs, ratios=None, official="folders", seed=0, folds=4)
    assert Counter(pair.fold for pair in result.pairs) == {0: 20, 1: 20, 2: 20, 3: 20, None: 20}
    assert {pair.id for pair in result.pairs if pair.fold is None} == {f"case{index:03d}" for index in range(20)}


def test_one_case_beside_an_official_test_part_is_train_and_val_is_missing_with_a_warning() -> None:
    pairs = [replace(pair, split="test" if index else None) for index, pair in enumerate(_pairs(3))]
    result = split_cases(pairs, ratios=None, official="folders", seed=0, folds=None)
    assert [pair.split for pair in result.pairs] == ["train", "test", "test"]
    assert result.warnings == ["too few for a val part: 1 group"]


def test_a_group_in_two_official_splits_is_a_warning() -> None:
    pairs = _pairs(4, per_group=2)
    parts = ("train", "test", "val", "val")
    pairs = [replace(pair, split=part) for pair, part in zip(pairs, parts, strict=True)]
    result = split_cases(pairs, ratios=None, official="lists", seed=0, folds=None)
    assert result.warnings == ["1 group in more than one official part: patient0"]


def test_folds_cover_train_and_val_and_not_test() -> None:
    result = split_cases(_pairs(100), ratios=(0.7, 0.1, 0.2), official="", seed=0, folds=4)
    folds = Counter(pair.fold for pair in result.pairs if pair.split != "test")
    assert folds == {0: 20, 1: 20, 2: 20, 3: 20}
    assert all(pair.fold is None for pair in result.pairs if pair.split == "test")


def test_more_folds_than_groups_are_refused() -> None:
    with pytest.raises(DataError, match="hold 2 groups"):
        split_cases(_pairs(8, per_group=4), ratios=(1, 0, 0), official="", seed=0, folds=3)


def test_a_pattern_gives_the_group() -> None:
    pairs = [ImageMaskPair(f"p{patient}_{index}", (Path("i"),), (Path("m"),)) for patient in (1, 2) for index in (1, 2)]
    assert [pair.group for pair in assign_groups(pairs, r"^(p\d+)_")] == ["p1", "p1", "p2", "p2"]


def test_cases_that_the_pattern_misses_are_listed() -> None:
    with pytest.raises(DataError, match="no group for 1 case: case000"):
        assign_groups(_pairs(1), "^p")


def test_a_table_gives_the_group(tmp_path: Path) -> None:
    (tmp_path / "groups.csv").write_text("case,patient\ncase000,x\ncase001,y\n")
    assert [pair.group for pair in assign_groups(_pairs(2), str(tmp_path / "groups.csv"))] == ["x", "y"]


@pytest.mark.parametrize("text", ["70/30", "a/b/c", "0/50/50", "-1/1/1"])
def test_invalid_shares_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--split"):
        parse_ratios(text)


def test_shares_of_any_scale_sum_to_one() -> None:
    assert parse_ratios("7/1/2") == pytest.approx((0.7, 0.1, 0.2))


def test_a_share_of_zero_gets_no_case() -> None:
    pairs = [ImageMaskPair(f"c{index}", (Path("a.png"),), (Path("a.png"),)) for index in range(11)]
    parts = stratified_group_split(pairs, {"train": 0.8, "val": 0.2, "test": 0.0}, seed=0)
    assert set(parts.values()) == {"train", "val"}


def test_a_table_of_groups_may_name_files_instead_of_cases(tmp_path: Path) -> None:
    (tmp_path / "groups.csv").write_text("case,group\na.png,p1\n")
    pair = ImageMaskPair("case_a", (Path("x/a.png"),), (Path("m/a.png"),))
    assert assign_groups([pair], str(tmp_path / "groups.csv"))[0].group == "p1"
