"""`guidino next-to-label` through the command line: the list, and what cannot be ranked."""

import csv
from collections.abc import Callable
from pathlib import Path
from shutil import copy, copytree, move
from typing import Any

import pytest
from PIL import Image

Guidino = Callable[..., Any]
SMALL = (
    "--set", "model.backbone={name: random, options: {hidden_size: 32, depth: 1, heads: 2}}",
    "--set", "data.image_size=48", "--set", "model.segmenter.options.radius=1", "--device", "cpu",
)  # fmt: skip


@pytest.fixture
def data(make_data: Callable[..., Path]) -> Path:
    return make_data(train=9, val=0, test=0, size_hw=(48, 64))


@pytest.fixture
def run(data: Path, tmp_path: Path, guidino: Guidino) -> Path:
    """A run from the first three cases."""
    assert guidino("fewshot", data, "-o", tmp_path / "run", *SMALL, "--labels", 3).code == 0
    return tmp_path / "run"


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_all_images_but_the_labelled_ones_are_ranked(run: Path, data: Path, tmp_path: Path, guidino: Guidino) -> None:
    outcome = guidino("next-to-label", run, data / "images", "-o", tmp_path / "next.csv", "--device", "cpu")
    assert outcome.code == 0, outcome.stderr
    assert "3 images left out, labelled already" in outcome.stderr
    found = rows(tmp_path / "next.csv")
    assert [row["rank"] for row in found] == ["1", "2", "3", "4", "5", "6"]
    assert {Path(row["image"]).stem for row in found} == {f"case{number}" for number in range(3, 9)}
    assert all(0 <= float(row["agreement"]) <= 1 for row in found)
    assert f"label these next: {Path(found[0]['image']).name}" in outcome.stdout
    assert guidino("next-to-label", run, data, "-o", tmp_path / "same.csv", "--device", "cpu").code == 0
    assert rows(tmp_path / "same.csv") == found


def test_a_copy_of_an_image_comes_last(run: Path, data: Path, tmp_path: Path, guidino: Guidino) -> None:
    guidino("next-to-label", run, data / "images", "-o", tmp_path / "next.csv", "--device", "cpu")
    first = Path(rows(tmp_path / "next.csv")[0]["image"])
    pool = copytree(data / "images", tmp_path / "pool")
    # Another file with the same pixels.
    Image.open(first).save(pool / "again.bmp")
    assert guidino("next-to-label", run, pool, "-o", tmp_path / "again.csv", "--device", "cpu").code == 0
    order = [Path(row["image"]).name for row in rows(tmp_path / "again.csv")]
    assert {order[0], order[-1]} == {first.name, "again.bmp"}


def test_a_run_made_of_folders_may_be_moved(data: Path, tmp_path: Path, guidino: Guidino) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    for number in range(3):
        copy(data / "masks" / f"case{number}.png", masks)
    assert guidino("fewshot", data / "images", masks, "-o", tmp_path / "run", *SMALL).code == 0
    move(tmp_path / "run", tmp_path / "moved")
    outcome = guidino("next-to-label", tmp_path / "moved", data / "images", "-o", tmp_path / "next.csv")
    assert outcome.code == 0, outcome.stderr


def test_a_pool_of_labelled_images_alone_is_refused(run: Path, data: Path, tmp_path: Path, guidino: Guidino) -> None:
    pool = tmp_path / "pool"
    pool.mkdir()
    copy(data / "images" / "case1.png", pool / "other-name.png")
    outcome = guidino("next-to-label", run, pool, "-o", tmp_path / "next.csv", "--device", "cpu")
    assert (outcome.code, "every image is labelled already" in outcome.stderr) == (3, True)
    assert not (tmp_path / "next.csv").exists()


def test_an_unreadable_image_does_not_stop_the_others(run: Path, data: Path, tmp_path: Path, guidino: Guidino) -> None:
    pool = copytree(data / "images", tmp_path / "pool")
    (pool / "broken.png").write_bytes(b"no image")
    outcome = guidino("next-to-label", run, pool, "-o", tmp_path / "next.csv", "--device", "cpu")
    assert outcome.code == 6
    assert "1 image could not be read" in outcome.stderr
    assert len(rows(tmp_path / "next.csv")) == 6


def test_a_label_that_changed_since_is_named(run: Path, data: Path, tmp_path: Path, guidino: Guidino) -> None:
    copy(data / "masks" / "case5.png", data / "masks" / "case1.png")
    outcome = guidino("next-to-label", run, data / "images", "-o", tmp_path / "next.csv", "--device", "cpu")
    assert (outcome.code, "case1.png: has changed since" in outcome.stderr) == (3, True)


def test_one_label_cannot_disagree_with_itself(data: Path, tmp_path: Path, guidino: Guidino) -> None:
    assert guidino("fewshot", data, "-o", tmp_path / "run", *SMALL, "--labels", 1).code == 0
    outcome = guidino("next-to-label", tmp_path / "run", data, "-o", tmp_path / "next.csv", "--device", "cpu")
    assert (outcome.code, "was made from one label" in outcome.stderr) == (2, True)


def test_a_list_is_replaced_only_on_request(run: Path, data: Path, tmp_path: Path, guidino: Guidino) -> None:
    (tmp_path / "next.csv").write_text("mine")
    words = ("next-to-label", run, data, "-o", tmp_path / "next.csv", "--device", "cpu")
    assert guidino(*words).code == 2
    assert guidino(*words, "--overwrite").code == 0
