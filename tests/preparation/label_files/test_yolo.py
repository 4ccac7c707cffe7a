"""YOLO segmentation as a layout of `prepare`."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from labelled_images import save_images

from guidino_cli.errors import DataError
from guidino_cli.preparation.layouts import detect_layout

Prepare = Callable[..., dict[str, np.ndarray]]

_SQUARE = "0 0.125 0.5 0.625 0.5 0.625 1 0.125 1"


def _write(root: Path, label: str = _SQUARE, data: str = "names: [polyp, tool]") -> Path:
    save_images(root, "images/train/a.png", "images/val/b.png")
    for name, text in (("train/a", label), ("val/b", "1 0 0 0.25 0 0.25 0.5 0 0.5\n")):
        path = root / "labels" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "data.yaml").write_text(f"path: /content/elsewhere\ntrain: images/train\nval: ../images/val\n{data}\n")
    return root


def test_polygons_are_shares_of_width_and_height_and_the_split_is_that_of_the_file(
    tmp_path: Path, prepared: Prepare
) -> None:
    source = _write(tmp_path / "x", f"1 0 0 1 0 1 1 0 1\n{_SQUARE}\n")
    dataset = detect_layout(source)
    assert (dataset.layout, dataset.class_names) == ("yolo", ("background", "polyp", "tool"))
    assert {pair.id: pair.split for pair in dataset.pairs} == {"a": "train", "b": "val"}
    expected = np.full((6, 8), 2, dtype=np.uint8)
    expected[3:6, 1:5] = 1
    masks = prepared(source)
    assert np.array_equal(masks["a"], expected)
    assert masks["b"].sum() == 2 * 6


def test_names_may_be_a_table_and_parts_lists_of_files(tmp_path: Path) -> None:
    source = _write(tmp_path, data="names:\n  1: tool\n  0: polyp")
    (source / "train.lst.txt").write_text("./images/train/a.png\n")
    (source / "data.yaml").write_text("train: train.lst.txt\nval: images/val\nnames:\n  1: tool\n  0: polyp\n")
    dataset = detect_layout(source / "data.yaml")
    assert dataset.class_names == ("background", "polyp", "tool")
    assert {pair.id: pair.split for pair in dataset.pairs} == {"a": "train", "b": "val"}


def test_an_image_without_a_text_file_is_empty_and_said(tmp_path: Path, prepared: Prepare) -> None:
    source = _write(tmp_path / "x")
    (source / "labels" / "val" / "b.txt").unlink()
    assert any("1 image without a text file" in note for note in detect_layout(source).notes)
    assert not prepared(source)["b"].any()


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("0 0.5 0.5 0.25 0.25", "a box in line 1, expected a polygon"),
        ("0 0.5 0.5 0.25", "polygon of 3 numbers, expected pairs"),
        ("0 0.5 0.5", "polygon of 1 point, expected at least 3"),
        ("\n0 0 0 1 0 nan 1", r"not finite \(NaN or infinite\) \(line 2\)"),
        ("2 0 0 1 0 1 1", "class '2' in line 1, expected 0 to 1"),
        ("polyp 0 0 1 0 1 1", "class 'polyp' in line 1"),
        ("0 0 0 1 0 1 one", "line 1 with 'one', no number"),
        ("0 0,0 1 0 1 1 1", "line 1 with '0,0', no number"),
        ("0 1 3 5 3 5 6 1 6", r"from 1 to 6, expected shares of width and height, 0 to 1; pixels\? \(line 1\)"),
    ],
)
def test_a_bad_line_names_file_and_line(tmp_path: Path, prepared: Prepare, label: str, message: str) -> None:
    with pytest.raises(DataError, match=rf"a\.txt: image 'a\.png' has .*{message}"):
        prepared(_write(tmp_path / "x", label))


def test_an_image_in_two_parts_of_the_split_names_both(tmp_path: Path) -> None:
    source = _write(tmp_path)
    (source / "data.yaml").write_text("train: images/train\nval: images/train\nnames: [polyp, tool]\n")
    with pytest.raises(DataError, match=r"data\.yaml: images/train/a\.png is in train and in val; .* one part"):
        detect_layout(source)


def test_a_label_file_that_is_no_text_is_named_once(tmp_path: Path, prepared: Prepare) -> None:
    source = _write(tmp_path / "x")
    (source / "labels" / "train" / "a.txt").write_bytes(b"\xff\xfe0 0")
    with pytest.raises(DataError, match=r"a\.txt: image 'a\.png' has a label file that is not UTF-8") as caught:
        prepared(source)
    assert str(caught.value).count("a.txt") == 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("nc: 2", "names no classes"),
        ("names: [polyp, '']", "classes without a name: 1"),
        ("names: [polyp, tool, polyp]", "two classes are named 'polyp'"),
        ("names: {0: polyp, 2: tool}", r"indices \[0, 2\], expected 0, 1, 2"),
        ("names: [polyp]\nnc: 2", "nc is 2, but 1 class named"),
        ("names: [polyp]\ntest: images/test", "test is 'images/test', but no such folder"),
        ("names: [polyp", "not valid YAML"),
    ],
)
def test_a_bad_description_is_one_line(tmp_path: Path, data: str, message: str) -> None:
    with pytest.raises(DataError, match=rf"data\.yaml: .*{message}"):
        detect_layout(_write(tmp_path, data=data))
