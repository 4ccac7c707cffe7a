"""Names, tiles and folds of what `prepare` writes."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from guidino_cli.data.image_writing import write_label_map
from guidino_cli.data.manifest import Manifest
from guidino_cli.errors import ConfigError
from guidino_cli.preparation.writing import _share_tiles, choose_tiles, export_nnunet, nnunet_folder_name
from guidino_cli.types import Case


def make_case(name: str, split: str, fold: int | None = None, foreground: float = 0.1) -> Case:
    return Case(name, Path(f"{name}.png"), Path(f"{name}.png"), split, fold, name, (4, 4), foreground)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "target", "folder"),
    [
        ("Kvasir-SEG 2", "nnunet", "Dataset001_Kvasir_SEG_2"),
        ("a", "nnunet:27", "Dataset027_a"),
        ("a", "nnunet:1", "Dataset001_a"),
        ("a", "nnunet:999", "Dataset999_a"),
        ("--", "nnunet", "Dataset001_data"),
    ],
)
def test_a_folder_of_nnunet_has_a_number_and_a_plain_name(name: str, target: str, folder: str) -> None:
    assert nnunet_folder_name(name, target) == folder


@pytest.mark.parametrize("target", ["nnunet:0", "nnunet:1000", "nnunet:x", "nnunet:-1", "coco"])
def test_another_target_or_number_is_refused(target: str) -> None:
    with pytest.raises(ConfigError, match=f"--export {target}: expected nnunet, or nnunet:27"):
        nnunet_folder_name("a", target)


@pytest.mark.parametrize(
    ("sizes", "count", "tiles"),
    [
        ({"train": 800, "val": 100, "test": 100}, 24, {"train": 14, "val": 5, "test": 5}),
        ({"train": 2, "val": 1, "test": 0}, 24, {"train": 2, "val": 1, "test": 0}),
        ({"train": 9, "val": 0, "test": 0}, 4, {"train": 4, "val": 0, "test": 0}),
        ({"train": 0, "val": 0, "test": 0}, 4, {"train": 0, "val": 0, "test": 0}),
    ],
)
def test_half_of_the_tiles_are_shared_equally(sizes: dict[str, int], count: int, tiles: dict[str, int]) -> None:
    """Of 24 tiles each of three parts has 4; of the other 12, 9.6 belong to train and 1.2 to each of the others."""
    assert _share_tiles(sizes, count) == tiles


def test_tiles_are_evenly_spaced_by_foreground_after_suspicious_cases() -> None:
    cases = [make_case(str(index), "train", foreground=index / 10) for index in range(9, -1, -1)]
    assert [case.id for case in choose_tiles(cases, 4)] == ["0", "3", "6", "9"]
    # A quarter of the tiles at most shows the named ones.
    assert [case.id for case in choose_tiles(cases, 4, first=["5", "6", "5"])] == ["5", "0", "4", "9"]


def write_cases(folder: Path, *parts: tuple[str, int | None]) -> Manifest:
    cases = []
    for index, (split, fold) in enumerate(parts):
        image, mask = folder / f"{index}.png", folder / f"{index}-mask.png"
        Image.fromarray(np.full((2, 3), 50 + index, dtype=np.uint8)).save(image)
        write_label_map(mask, np.full((2, 3), index % 2, dtype=np.uint8))
        cases.append(Case(str(index), image, mask, split, fold, str(index), (2, 3), 0.5))  # type: ignore[arg-type]
    return Manifest("a", ["background", "polyp"], cases, {})


def test_nnunet_trains_on_train_and_val_and_keeps_test_apart(tmp_path: Path) -> None:
    export_nnunet(write_cases(tmp_path, ("train", None), ("val", None), ("test", None)), tmp_path / "out")
    names = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png"))
    assert names == [
        "imagesTr/0_0000.png", "imagesTr/1_0000.png", "imagesTs/2_0000.png",
        "labelsTr/0.png", "labelsTr/1.png", "labelsTs/2.png",
    ]  # fmt: skip
    description = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert (description["numTraining"], description["labels"]) == (2, {"background": 0, "polyp": 1})
    assert json.loads((tmp_path / "out" / "splits_final.json").read_text()) == [{"train": ["0"], "val": ["1"]}]
    assert np.asarray(Image.open(tmp_path / "out" / "imagesTr" / "1_0000.png"))[0, 0].tolist() == [51, 51, 51]


def test_folds_of_the_manifest_are_those_of_nnunet(tmp_path: Path) -> None:
    export_nnunet(write_cases(tmp_path, ("train", 1), ("val", 0), ("test", None), ("train", 1)), tmp_path / "out")
    assert json.loads((tmp_path / "out" / "splits_final.json").read_text()) == [
        {"train": ["0", "3"], "val": ["1"]}, {"train": ["1"], "val": ["0", "3"]},
    ]  # fmt: skip
