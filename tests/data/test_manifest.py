"""Saving, loading and selecting from cases.json."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from guidino_cli.data.manifest import Manifest, ignore_label, load_manifest, require_cases, save_manifest
from guidino_cli.errors import DataError
from guidino_cli.files import describe_unsafe_name

Maker = Callable[..., Path]


def test_a_manifest_is_loaded_as_it_was_saved(make_data: Maker, tmp_path: Path) -> None:
    manifest = load_manifest(make_data(fold_count=2))
    save_manifest(manifest, tmp_path / "data")
    assert load_manifest(tmp_path / "data") == manifest


def test_unlabelled_cases_and_unicode_names_are_loaded_as_saved(tmp_path: Path) -> None:
    from guidino_cli.types import Case

    case = Case("größe", tmp_path / "größe.png", None, "test", None, "größe", (3, 4), None)
    manifest = Manifest("名", ["background", "é"], [case], {"layout": "csv"})
    save_manifest(manifest, tmp_path)
    assert load_manifest(tmp_path) == manifest


def test_source_columns_are_kept_and_may_be_absent(make_data: Maker, tmp_path: Path) -> None:
    manifest = load_manifest(make_data())
    assert '"fields"' not in (tmp_path / "data" / "cases.json").read_text()
    told = replace(manifest, cases=[replace(case, fields={"scanner": "A"}) for case in manifest.cases])
    save_manifest(told, tmp_path / "data")
    assert load_manifest(tmp_path / "data") == told


def test_the_file_itself_may_be_given(make_data: Maker) -> None:
    data = make_data()
    assert load_manifest(data / "cases.json") == load_manifest(data)


def test_paths_are_relative_to_the_folder_so_that_it_can_move(make_data: Maker, tmp_path: Path) -> None:
    data = make_data()
    data.rename(tmp_path / "moved")
    case = load_manifest(tmp_path / "moved").cases[0]
    assert case.image.is_file()
    assert case.mask is not None
    assert case.mask.is_file()


def test_there_is_one_case_a_line(make_data: Maker) -> None:
    lines = (make_data(train=2, val=1, test=0) / "cases.json").read_text().splitlines()
    assert sum('"id":' in line for line in lines) == 3


def test_without_folds_select_returns_the_cases_of_the_split(make_data: Maker) -> None:
    manifest = load_manifest(make_data(train=3, val=2, test=1))
    assert {split: len(manifest.select(split)) for split in ("train", "val", "test")} == {
        "train": 3,
        "val": 2,
        "test": 1,
    }


def test_folds_are_disjoint_and_do_not_contain_test_cases(make_data: Maker) -> None:
    manifest = load_manifest(make_data(train=4, val=2, test=1, fold_count=3))
    validated = []
    for fold in range(3):
        train, val = ({case.id for case in manifest.select(split, fold)} for split in ("train", "val"))
        assert not train & val
        assert len(train | val) == 6
        assert [case.id for case in manifest.select("test", fold)] == ["case6"]
        validated += sorted(val)
    assert len(validated) == len(set(validated)) == 6


def test_a_fold_that_does_not_exist_is_refused(make_data: Maker) -> None:
    with pytest.raises(DataError, match=r"data\.fold is 3, but the data has folds 0\.\.2"):
        load_manifest(make_data(fold_count=3)).select("train", 3)


def test_a_fold_of_data_without_folds_is_refused(make_data: Maker) -> None:
    with pytest.raises(DataError, match=r"has no folds; make them with `guidino prepare --folds`"):
        load_manifest(make_data()).select("train", 0)


def test_a_folder_that_was_not_prepared_is_refused_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no cases\.json; make it with `guidino prepare"):
        load_manifest(tmp_path)


def test_another_format_is_refused_with_both_numbers(make_data: Maker) -> None:
    data = make_data()
    content = json.loads((data / "cases.json").read_text())
    (data / "cases.json").write_text(json.dumps({**content, "format": 99}))
    with pytest.raises(DataError, match=r"format 99, this guidino reads 1 \(images\) and 2 \(volumes\); run"):
        load_manifest(data)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 1}', '{"format": 1, "cases": [{}]}'])
def test_a_damaged_manifest_is_refused_by_name(text: str, tmp_path: Path) -> None:
    (tmp_path / "cases.json").write_text(text)
    with pytest.raises(DataError, match=r"cases\.json: damaged"):
        load_manifest(tmp_path)


def test_an_empty_split_is_refused(make_data: Maker, tmp_path: Path) -> None:
    manifest = load_manifest(make_data())
    assert require_cases(manifest.cases, "train", tmp_path) == manifest.cases
    with pytest.raises(DataError, match="no cases in the val split"):
        require_cases([], "val", tmp_path)


def test_cases_are_immutable(make_data: Maker) -> None:
    case = load_manifest(make_data()).cases[0]
    assert replace(case, split="test").split == "test"
    with pytest.raises(AttributeError):
        case.split = "test"  # type: ignore[misc]


@pytest.mark.parametrize(
    "name",
    ["../../x", "/tmp/x", "a/b", "a\\b", "..", "", "a\nb", "\x1b[31mred", "NUL", "com1.x", "a\u202eb", "a" * 201, 3],
)
def test_a_case_id_that_is_no_plain_name_is_refused(tmp_path: Path, name: object) -> None:
    case = {"id": name, "image": "a.png", "mask": None, "split": "train", "fold": None, "group": "a"}
    case |= {"size_hw": [1, 1], "foreground": None}
    content = {"format": 1, "name": "x", "classes": ["background", "x"], "cases": [case], "source": {}}
    (tmp_path / "cases.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"the case id|cases\.0\.id"):
        load_manifest(tmp_path)


def test_a_case_id_of_any_script_with_spaces_and_dots_is_accepted(tmp_path: Path) -> None:
    assert describe_unsafe_name("patient 7.v2 (Übersicht) 画像") == ""
    assert describe_unsafe_name("a" * 200) == ""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
@pytest.mark.parametrize("name", ['the "best" scan', "12:30", "a<b>", "why?", "a|b", "a*"])
def test_a_case_id_that_is_a_file_name_on_this_system_is_accepted(name: str) -> None:
    assert describe_unsafe_name(name) == ""


def test_an_ignore_label_is_loaded_for_every_case_and_may_be_no_class(make_data: Maker, tmp_path: Path) -> None:
    manifest = ignore_label(load_manifest(make_data()), 255, source="test")
    save_manifest(manifest, tmp_path / "data")
    assert load_manifest(tmp_path / "data") == manifest
    assert {case.ignore_label for case in manifest.cases} == {255}
    path = tmp_path / "data" / "cases.json"
    path.write_text(path.read_text().replace('"ignore_label": 255', '"ignore_label": 1'))
    with pytest.raises(DataError, match=r"cases\.json: the ignore label is 1, which is a class"):
        load_manifest(tmp_path / "data")
