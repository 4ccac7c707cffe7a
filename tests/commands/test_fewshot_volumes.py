"""`guidino fewshot` on volumes, slice by slice: as on the same slices as images, and volumes that cannot be used."""

from collections.abc import Callable
from pathlib import Path
from shutil import copy
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file
from volumes_data import make_volumes

from guidino_cli.engine.runs.folder import RunFolder
from guidino_cli.engine.runs.loading import load_run

Guidino = Callable[..., Any]
SMALL = (
    "--set", "model.backbone={name: random, options: {hidden_size: 32, depth: 1, heads: 2}}",
    "--set", "data.image_size=48", "--set", "model.segmenter.options.radius=1", "--device", "cpu",
)  # fmt: skip
AS_THEY_ARE = ("--set", "data.intensity=window", "--set", "data.window=[127.5,255]")
SHAPE = (48, 48, 10)


def save(path: Path, values: np.ndarray, spacing: tuple[float, float, float] = (1.0, 1.0, 3.0)) -> None:
    """A NIfTI file with the axes LPS, of which slice z is `values[:, :, z].T`."""
    path.parent.mkdir(exist_ok=True)
    x, y, z = spacing
    nibabel.save(nibabel.Nifti1Image(values, np.diag([-x, -y, z, 1.0])), path)


def load(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Four volumes of a bright and a very bright box, three of them labelled: classes 1 and 2."""
    images, masks, random = tmp_path / "images", tmp_path / "masks", np.random.default_rng(0)
    for number in range(4):
        values, labels = random.integers(0, 60, SHAPE), np.zeros(SHAPE, dtype=np.uint8)
        for index, left in ((1, 2), (2, 26)):
            x, y = random.integers(0, 6), random.integers(0, 24)
            labels[left + x : left + x + 14, y : y + 20, 2 + number : 7 + number // 2] = index
        values += labels * 80
        save(images / f"v{number}.nii.gz", values.astype(np.uint8))
        if number < 3:
            save(masks / f"v{number}.nii.gz", labels)
    return images, masks


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


def guide_weights(run: Path) -> np.ndarray:
    return load_file(run / "best" / "model.safetensors")["guide.weight"]


def test_a_run_on_volumes_predicts_in_the_grid_of_the_source(
    folders: tuple[Path, Path], run: Path, tmp_path: Path, guidino: Guidino
) -> None:
    images, masks = folders
    outcome = guidino("fewshot", *folders, "-o", run, *SMALL, "--classes", "background,a,b", "--channels", "MR")
    assert outcome.code == 0, outcome.stderr
    assert "3 labelled volumes: v0, v1, v2, 30 slices of them looked at" in outcome.stdout
    assert f"next: guidino predict {run} VOLUMES -o MASKS" in outcome.stdout
    assert "warning" not in outcome.stderr
    facts = RunFolder(run).facts()
    assert (facts["volumes"]["channels"], facts["volumes"]["slice_axis"]) == (["MR"], 0)
    assert facts["fewshot"]["unlabelled"]["count"] == 1
    # Slices without the object must not move the threshold; pictures do by .75.
    assert RunFolder(run).config().model.segmenter.options["otsu"] == 0
    for index, name in ((1, "a"), (2, "b")):
        shares = [np.mean(load(path) == index) for path in sorted(masks.iterdir())]
        assert facts["fewshot"]["thresholds"][name]["area"] == pytest.approx(np.mean(shares))
    predicted = guidino("predict", run, images, "-o", tmp_path / "predicted", "--device", "cpu")
    assert predicted.code == 0, predicted.stderr
    found, source = (nibabel.load(folder / "v3.nii.gz") for folder in (tmp_path / "predicted", images))
    assert found.shape == source.shape
    np.testing.assert_array_equal(found.affine, source.affine)


def test_a_run_on_volumes_is_drawn_and_tuned(
    folders: tuple[Path, Path], run: Path, tmp_path: Path, guidino: Guidino, coarse_figures: None
) -> None:
    assert guidino("fewshot", *folders, "-o", run, *SMALL).code == 0
    shown = guidino("visualize-guide", folders[0] / "v3.nii.gz", "--run", run, "-o", tmp_path / "p", "--device", "cpu")
    assert shown.code == 0, shown.stderr
    tuned = guidino(
        "lora-tune", run, "-o", tmp_path / "tuned", "--device", "cpu", "--set", "data.fold=0",
        "--set", "train.epochs=1", "--set", "train.steps=1",
    )  # fmt: skip
    assert tuned.code == 0, tuned.stderr


def test_slices_teach_what_the_same_pictures_teach(
    folders: tuple[Path, Path], run: Path, tmp_path: Path, guidino: Guidino
) -> None:
    pictures = tmp_path / "pictures"
    for folder in folders:
        (pictures / folder.name).mkdir(parents=True)
        for path in sorted(folder.iterdir())[:3]:
            for z in range(SHAPE[2]):
                name = f"{path.name.split('.')[0]}_{z:02}.png"
                Image.fromarray(load(path)[:, :, z].T).save(pictures / folder.name / name)
    of_pictures = guidino("fewshot", pictures / "images", pictures / "masks", "-o", tmp_path / "other", *SMALL)
    assert of_pictures.code == 0, of_pictures.stderr
    assert guidino("fewshot", *folders, "-o", run, *SMALL, *AS_THEY_ARE).code == 0
    np.testing.assert_allclose(guide_weights(run), guide_weights(tmp_path / "other"), rtol=1e-3, atol=1e-5)


def test_slices_that_do_not_count_are_not_looked_at(
    folders: tuple[Path, Path], run: Path, tmp_path: Path, guidino: Guidino
) -> None:
    images, masks = folders
    kept = [2, 5, 6]
    for path in sorted(masks.iterdir()):
        labels = load(path).copy()
        save(tmp_path / "short_masks" / path.name, labels[:, :, kept])
        save(tmp_path / "short_images" / path.name, load(images / path.name)[:, :, kept])
        labels[:, :, [place for place in range(SHAPE[2]) if place not in kept]] = 9
        save(path, labels)
    outcome = guidino("fewshot", *folders, "-o", run, *SMALL, *AS_THEY_ARE, "--ignore-label", 9)
    assert outcome.code == 0, outcome.stderr
    assert RunFolder(run).facts()["fewshot"]["slices"] == dict.fromkeys(("v0", "v1", "v2"), kept)
    short = (tmp_path / "short_images", tmp_path / "short_masks")
    assert guidino("fewshot", *short, "-o", tmp_path / "other", *SMALL, *AS_THEY_ARE).code == 0
    np.testing.assert_allclose(guide_weights(run), guide_weights(tmp_path / "other"), rtol=1e-4, atol=1e-6)


def test_objects_on_single_slices_make_one_ask_whether_the_others_are_labelled(
    folders: tuple[Path, Path], run: Path, guidino: Guidino
) -> None:
    labels = load(folders[1] / "v0.nii.gz").copy()
    labels[:, :, [3, 5]] = 0
    save(folders[1] / "v0.nii.gz", labels)
    outcome = guidino("fewshot", *folders, "-o", run, *SMALL)
    assert outcome.code == 0
    assert "v0: has foreground on 3 slices, no two of them neighbours" in outcome.stderr
    assert "v1:" not in outcome.stderr


def test_a_number_of_slices_is_spread_over_the_volumes(folders: tuple[Path, Path], run: Path, guidino: Guidino) -> None:
    outcome = guidino("fewshot", *folders, "-o", run, *SMALL, "--slices", 12, "--labels", 2)
    assert outcome.code == 0, outcome.stderr
    found = RunFolder(run).facts()["fewshot"]
    assert [len(places) for places in found["slices"].values()] == [6, 6]
    assert found["unlabelled"]["count"] == 2


def test_a_prepared_folder_of_volumes_is_taken(tmp_path: Path, run: Path, guidino: Guidino) -> None:
    data = make_volumes(tmp_path, train=4, num_classes=3, ignore_label=7)
    chosen = ("--labels", 2, "--set", "model.segmenter.options.otsu=0.5")
    outcome = guidino("fewshot", data, "-o", run, *SMALL, *chosen)
    assert outcome.code == 0, outcome.stderr
    facts = RunFolder(run).facts()
    # The last slice has the ignore label.
    assert facts["fewshot"]["slices"] == {"case0": list(range(11)), "case1": list(range(11))}
    assert facts["fewshot"]["unlabelled"]["count"] == 2
    assert RunFolder(run).config().model.segmenter.options["otsu"] == 0.5
    predicted = guidino("predict", run, data, "--split", "test", "-o", tmp_path / "predicted", "--device", "cpu")
    assert predicted.code == 0, predicted.stderr


def test_with_resize_longer_slices_are_seen_in_their_shape_without_padding(
    tmp_path: Path, run: Path, guidino: Guidino
) -> None:
    images, masks, random = tmp_path / "images", tmp_path / "masks", np.random.default_rng(0)
    for number in range(2):
        labels = np.zeros((24, 48, 6), dtype=np.uint8)
        labels[4:16, 10 + number : 30, 1:4] = 1
        save(images / f"v{number}.nii.gz", (random.integers(0, 60, labels.shape) + 150 * labels).astype(np.uint8))
        save(masks / f"v{number}.nii.gz", labels)
    chosen = (*AS_THEY_ARE, "--set", "data.resize=longer")
    assert guidino("fewshot", images, masks, "-o", run, *SMALL, *chosen, "--labels", 1).code == 0
    assert guidino("predict", run, images, "-o", tmp_path / "predicted", "--device", "cpu").code == 0
    model, _, _ = load_run(run)
    # Slices have 48 rows and 24 columns both in their file and for the network, and 255 is white.
    slices = torch.from_numpy(load(images / "v1.nii.gz").T.copy()).float()[:, None] / 255
    with torch.no_grad():
        expected = model(slices).logits[0].argmax(dim=1).numpy()
    np.testing.assert_array_equal(load(tmp_path / "predicted" / "v1.nii.gz").T, expected)


def test_labelled_volumes_in_the_pool_are_left_out(
    folders: tuple[Path, Path], run: Path, tmp_path: Path, guidino: Guidino
) -> None:
    (tmp_path / "pool").mkdir()
    for name in ("v1", "v3"):
        copy(folders[0] / f"{name}.nii.gz", tmp_path / "pool" / f"copy_of_{name}.nii.gz")
    outcome = guidino("fewshot", *folders, "-o", run, *SMALL, "--unlabelled", tmp_path / "pool")
    assert outcome.code == 0, outcome.stderr
    assert "1 volume left out, labelled already" in outcome.stderr
    assert RunFolder(run).facts()["fewshot"]["unlabelled"]["count"] == 1
    (tmp_path / "pool" / "copy_of_v3.nii.gz").unlink()
    refused = guidino("fewshot", *folders, "-o", tmp_path / "other", *SMALL, "--unlabelled", tmp_path / "pool")
    assert (refused.code, "every volume is a labelled one" in refused.stderr) == (3, True)


def test_a_volume_without_the_object_is_used_and_named(folders: tuple[Path, Path], run: Path, guidino: Guidino) -> None:
    save(folders[1] / "v2.nii.gz", np.zeros(SHAPE, dtype=np.uint8))
    outcome = guidino("fewshot", *folders, "-o", run, *SMALL)
    assert outcome.code == 0
    assert "1 of 3 labelled volumes without class_1 (v2): teaches what it is not" in outcome.stderr


def test_an_unlabelled_volume_that_cannot_be_read_is_left_out(
    folders: tuple[Path, Path], run: Path, guidino: Guidino
) -> None:
    (folders[0] / "v4.nii.gz").write_bytes(b"no volume")
    outcome = guidino("fewshot", *folders, "-o", run, *SMALL)
    assert outcome.code == 0
    assert "v4.nii.gz" in outcome.stderr
    assert RunFolder(run).facts()["fewshot"]["unlabelled"]["count"] == 1


def _clear(images: Path, masks: Path) -> None:
    for path in masks.iterdir():
        save(path, np.zeros(SHAPE, dtype=np.uint8))


def _fill(images: Path, masks: Path) -> None:
    for path in masks.iterdir():
        save(path, np.ones(SHAPE, dtype=np.uint8))


def _shrink(images: Path, masks: Path) -> None:
    save(masks / "v1.nii.gz", load(masks / "v1.nii.gz")[:, :, :5])


def _move(images: Path, masks: Path) -> None:
    save(masks / "v1.nii.gz", load(masks / "v1.nii.gz"), spacing=(1.0, 1.0, 2.0))


def _ignore(images: Path, masks: Path) -> None:
    save(masks / "v1.nii.gz", np.full(SHAPE, 9, dtype=np.uint8))


def _rename(images: Path, masks: Path) -> None:
    for path in list(masks.iterdir()):
        path.rename(path.with_name(f"other{path.name}"))


def _add_a_mask(images: Path, masks: Path) -> None:
    save(masks / "stranger.nii.gz", np.ones(SHAPE, dtype=np.uint8))


def _add_a_second_mask(images: Path, masks: Path) -> None:
    copy(masks / "v1.nii.gz", masks / "v1_seg.nii.gz")


def _draw(images: Path, masks: Path) -> None:
    for path in list(masks.iterdir()):
        path.unlink()
        Image.fromarray(np.zeros(SHAPE[:2], dtype=np.uint8)).save(path.with_name("v0.png"))


@pytest.mark.parametrize(
    ("spoil", "words", "code", "message"),
    [
        (_clear, ("--classes", "0=background,1=a"), 3, "no labelled volume has foreground (v0, v1, v2)"),
        (_fill, ("--classes", "0=background,1=a"), 3, "all labelled volumes are a throughout"),
        (None, ("--classes", "0=background,1=a,2=b,5=c"), 3, "no labelled volume has a voxel of c"),
        (_shrink, (), 3, "v1.nii.gz"),
        (_move, (), 3, "v1.nii.gz"),
        (_ignore, ("--ignore-label", 9), 3, "no voxel of v1 counts, all have the ignore label"),
        (_rename, (), 3, "no mask is named like a volume of"),
        (_add_a_mask, (), 3, "1 mask without a volume in"),
        (_add_a_second_mask, (), 3, "v1.nii.gz and v1_seg.nii.gz are both named as masks of v1"),
        (_draw, (), 3, "holds images (v0.png), but"),
        (None, ("--labels", 4), 2, "holds 3 labels; give 1 to 3"),
        (None, ("--exif", "apply"), 2, "--exif: is for images, but these are volumes"),
        (None, ("--merge-masks",), 2, "--merge-masks: is for images, but these are volumes"),
        (None, ("--orientation", "RAX"), 2, "expected three letters such as RAS or LPS"),
        (None, ("--channels", "CT,"), 2, "a name is empty or given twice"),
        (None, ("--channels", "CT,PT"), 3, "3 problems, listed above"),
        (None, ("--set", "data.dims=2.5"), 2, "fewshot looks at single slices: set data.dims=2"),
        (None, ("--set", "data.intensity=[ct,suv]"), 2, "data.intensity names 2 kinds"),
        (None, ("--unlabelled", "nowhere"), 3, "nowhere: no such file or folder"),
    ],
)
def test_volumes_that_cannot_be_used_are_answered_in_one_line(
    spoil: Callable[[Path, Path], None] | None, words: tuple, code: int, message: str,
    folders: tuple[Path, Path], run: Path, guidino: Guidino,
) -> None:  # fmt: skip
    if spoil is not None:
        spoil(*folders)
    outcome = guidino("fewshot", *folders, "-o", run, *SMALL, *words)
    assert outcome.code == code, outcome.stderr
    assert message in outcome.stderr.splitlines()[-1]
    assert ".tmp" not in outcome.stderr
    assert not run.exists()


def test_bad_volumes_can_be_left_out(folders: tuple[Path, Path], run: Path, guidino: Guidino) -> None:
    _shrink(*folders)
    outcome = guidino("fewshot", *folders, "-o", run, *SMALL, "--skip-bad")
    assert outcome.code == 6
    assert "1 label left out, the rest is used" in outcome.stderr
    assert list(RunFolder(run).facts()["fewshot"]["slices"]) == ["v0", "v2"]


def test_options_of_volumes_are_refused_for_images(tmp_path: Path, run: Path, guidino: Guidino) -> None:
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.zeros((48, 48), dtype=np.uint8)).save(tmp_path / name / "a.png")
    outcome = guidino("fewshot", tmp_path / "images", tmp_path / "masks", "-o", run, *SMALL, "--channels", "CT")
    assert (outcome.code, "--channels: is for volumes, but these are images" in outcome.stderr) == (2, True)


def test_next_to_label_is_for_images(folders: tuple[Path, Path], run: Path, tmp_path: Path, guidino: Guidino) -> None:
    assert guidino("fewshot", *folders, "-o", run, *SMALL).code == 0
    outcome = guidino("next-to-label", run, folders[0], "-o", tmp_path / "next.csv", "--device", "cpu")
    assert (outcome.code, "was made from volumes, and next-to-label ranks images" in outcome.stderr) == (2, True)
