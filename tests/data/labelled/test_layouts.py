"""Layouts of data sets with class labels, and what each of them refuses."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from guidino_cli.data.labelled.layouts import read_labelled_set
from guidino_cli.data.labelled.pictures import chosen_slices, slice_in_volume
from guidino_cli.errors import ConfigError, DataError


def _image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8)).save(path)
    return path


def _table(folder: Path, text: str) -> Path:
    path = folder / "labels.csv"
    path.write_text(text)
    return path


def test_folders_are_classes_and_train_val_test_above_are_the_split(tmp_path: Path) -> None:
    for name in ("train/cat/1.png", "train/dog/2.png", "valid/cat/3.png", "test/dog/4.png"):
        _image(tmp_path / name)
    data = read_labelled_set(tmp_path)
    assert data.classes == ("cat", "dog")
    found = {item.id: (item.labels, item.split) for item in data.items}
    assert found == {
        "train/cat/1.png": ((0,), "train"),
        "train/dog/2.png": ((1,), "train"),
        "valid/cat/3.png": ((0,), "val"),
        "test/dog/4.png": ((1,), "test"),
    }


@pytest.mark.parametrize("names", [("images", "masks"), ("train/Images", "train/labels", "val/Images", "val/labels")])
def test_images_and_their_masks_are_no_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    # A classifier would tell them apart without a mistake.
    for name in names:
        _image(tmp_path / name / "1.png")
    with pytest.raises(DataError, match=r"(?i)holds images/ and (masks|labels)/, which are no classes; .*image,label"):
        read_labelled_set(tmp_path)


def test_a_class_may_be_called_mask(tmp_path: Path) -> None:
    for name in ("mask", "no_mask"):
        _image(tmp_path / name / "1.png")
    assert read_labelled_set(tmp_path).classes == ("mask", "no_mask")


def test_folders_inside_a_class_are_bags(tmp_path: Path) -> None:
    for name in ("benign/slide1/1.png", "benign/slide1/2.png", "tumour/slide2/1.png"):
        _image(tmp_path / name)
    assert [item.bag for item in read_labelled_set(tmp_path).items] == [
        "benign/slide1",
        "benign/slide1",
        "tumour/slide2",
    ]


def test_a_table_of_one_label_has_its_columns_read(tmp_path: Path) -> None:
    text = "image,label,patient,split,fold\na.png,2,p1,train,0\nb.png,10,p1,train,0\nc.png,,p2,test,\n"
    data = read_labelled_set(_table(tmp_path, text))
    # Numbers are in the order of numbers; a blank label is unknown.
    assert (data.classes, [item.labels[0] for item in data.items]) == (("2", "10"), [0, 1, -1])
    assert [(item.group, item.split, item.fold) for item in data.items] == [
        ("p1", "train", 0),
        ("p1", "train", 0),
        ("p2", "test", None),
    ]


def test_columns_of_zero_and_one_are_labels_of_their_own(tmp_path: Path) -> None:
    data = read_labelled_set(_table(tmp_path, "image,A,B,count\na.png,1,,4\nb.png,0,-1,9\nc.png,1,0,2\nd.png,0,1,1\n"))
    assert (data.classes, data.is_multilabel) == (("A", "B"), True)
    assert [item.labels for item in data.items] == [(1, -1), (0, -1), (1, 0), (0, 1)]
    assert "not count" in data.notes[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,label\na.png,x\nb.png,x\n", "has one class (x)"),
        ("image,A,B\na.png,1,1\nb.png,1,1\n", "every label is constant (A, B)"),
        ("image,label,patient,split\na.png,x,p,train\nb.png,y,p,test\n", "patient p is in two parts of the split"),
        ("image,label,patient,fold\na.png,x,p,0\nb.png,y,p,1\n", "patient p is in two folds, 0 and 1"),
        ("image,label,bag\na.png,x,s\nb.png,y,s\nc.png,y,t\n", "bag s has two labels"),
        (
            "image,label,bag,patient\na.png,x,s,p\nb.png,x,s,q\nc.png,y,t,q\n",
            "bag s has two patients, p and q",
        ),
        ("image,label\na.png,x\nb.png,nan\n", "line 3: label is nan"),
        ("image,A,B\na.png,1,0\nb.png,nan,0\n", "has one class"),
        ("image,label,split\na.png,x,later\nb.png,y,train\n", "line 2: split is 'later'"),
        ("image,label\na.png,x\na.png,y\n", "a.png comes twice"),
        ("picture,label\na.png,x\n", "has no column image"),
        ("image,kind\na.png,x\nb.png,y\n", "has no column label"),
        ("image,label\n", "has no rows"),
    ],
)
def test_a_bad_table_is_refused_with_its_reason(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_labelled_set(_table(tmp_path, text))
    assert message in str(caught.value)


def test_a_nan_among_several_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 3: A is 'nan', expected 0 or 1"):
        read_labelled_set(_table(tmp_path, "image,A,B\na.png,1,0\nb.png,nan,0\n"), labels=["A", "B"])


def test_an_archive_of_medmnist_is_read_image_by_image(tmp_path: Path) -> None:
    from guidino_cli.data.labelled.archives import ImageArray

    images = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
    path = tmp_path / "set.npz"
    np.savez_compressed(
        path,
        train_images=images, train_labels=np.array([[0], [1], [0]]),
        val_images=images[:1], val_labels=np.array([[1]]),
    )  # fmt: skip
    data = read_labelled_set(path, names=["normal", "ill"])
    assert [(item.id, item.labels, item.split) for item in data.items][2:] == [
        ("train/000002", (0,), "train"),
        ("val/000000", (1,), "val"),
    ]
    array = ImageArray(path, "train_images")
    for index in (1, 0, 2):
        np.testing.assert_array_equal(array.read(index), images[index])


def test_archives_of_a_folder_are_parts_of_one_set(tmp_path: Path) -> None:
    images = np.zeros((4, 4, 5), np.uint8)
    np.savez(
        tmp_path / "train_val.npz",
        train_images=images,
        train_labels=[0, 1, 0, 1],
        val_images=images[:1],
        val_labels=[1],
    )
    np.savez(tmp_path / "test.npz", test_images=images[:2], test_labels=[1, 0])
    (tmp_path / "SOURCE.txt").write_text("where it is from")
    data = read_labelled_set(tmp_path, names=["normal", "ill"])
    assert [(item.split, item.path.name) for item in data.items] == [
        *[("train", "train_val.npz")] * 4, ("val", "train_val.npz"), *[("test", "test.npz")] * 2,
    ]  # fmt: skip
    assert [item.labels[0] for item in data.items] == [0, 1, 0, 1, 1, 1, 0]


def test_a_part_that_two_archives_hold_is_refused(tmp_path: Path) -> None:
    for name in "ab":
        np.savez(tmp_path / f"{name}.npz", train_images=np.zeros((2, 4, 5), np.uint8), train_labels=[0, 1])
    with pytest.raises(DataError, match=r"b\.npz: holds train_images, and so does a\.npz; give one of them"):
        read_labelled_set(tmp_path)


def test_labels_of_an_archive_that_are_nan_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    np.savez(path, train_images=np.zeros((2, 4, 4), np.uint8), train_labels=np.array([[0.0], [np.nan]]))
    with pytest.raises(DataError, match="train_labels of image 1 is NaN"):
        read_labelled_set(path)


def test_grey_images_with_an_axis_of_one_channel_are_no_volumes(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    np.savez(path, train_images=np.zeros((2, 28, 28, 1), np.uint8), train_labels=np.array([0, 1]))
    with pytest.raises(DataError, match=r"train_images is \(2, 28, 28, 1\), expected \(images, height, width\)"):
        read_labelled_set(path)


def test_a_cut_archive_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    path.write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(DataError, match=r"set\.npz: cannot be read as an archive"):
        read_labelled_set(path)


def test_a_prepared_folder_asks_for_one_of_its_fields(make_data: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match=r"name one of its fields, such as --label fields\.kind"):
        read_labelled_set(make_data())


def test_a_folder_that_holds_a_table_says_which_to_give(tmp_path: Path) -> None:
    _table(tmp_path, "image,label\n")
    _image(tmp_path / "images" / "a.png")
    with pytest.raises(DataError, match=r"give .*labels\.csv instead"):
        read_labelled_set(tmp_path)


def test_a_chosen_slice_is_found_again_in_its_volume() -> None:
    for total in range(1, 30):
        for every in range(1, 12):
            chosen = list(chosen_slices(total, every))
            found = [slice_in_volume(place, len(chosen), every) for place in range(len(chosen))]
            assert found in (chosen, [None])
            assert found == chosen or (len(chosen) == 1 and every > 1)
