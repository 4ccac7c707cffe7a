"""`guidino fewshot` through the command line: a run as any other, and labels that cannot be used."""

import json
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from guidino_cli.data.cases import read_label_map
from guidino_cli.data.image_writing import write_label_map
from guidino_cli.data.manifest import load_manifest
from guidino_cli.data.preprocess import to_tensor
from guidino_cli.engine.runs.folder import RunFolder
from guidino_cli.engine.runs.loading import load_run
from guidino_cli.files import file_sha256

Guidino = Callable[..., Any]
SMALL = (
    "--set", "model.backbone={name: random, options: {hidden_size: 32, depth: 1, heads: 2}}",
    "--set", "data.image_size=48", "--set", "model.segmenter.options.radius=1", "--device", "cpu",
)  # fmt: skip


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Nine images of bright squares, the first five with masks of 0 and 255."""
    images, masks, random = tmp_path / "images", tmp_path / "masks", np.random.default_rng(0)
    images.mkdir()
    masks.mkdir()
    for number in range(9):
        pixels, mask = random.integers(0, 60, (48, 64, 3)).astype(np.uint8), np.zeros((48, 64), dtype=np.uint8)
        top, left = random.integers(0, 16), random.integers(0, 32)
        mask[top : top + 30, left : left + 30] = 255
        pixels[mask > 0] += 150
        Image.fromarray(pixels).save(images / f"i{number}.png")
        if number < 5:
            Image.fromarray(mask).save(masks / f"i{number}.png")
    return images, masks


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


def paint(path: Path, values: np.ndarray | int, size: tuple[int, int] = (48, 64)) -> None:
    Image.fromarray(np.broadcast_to(np.asarray(values, dtype=np.uint8), size).copy()).save(path)


def test_a_run_is_made_that_predicts(folders: tuple[Path, Path], run: Path, tmp_path: Path, guidino: Guidino) -> None:
    images, masks = folders
    outcome = guidino("fewshot", *folders, "-o", run, *SMALL, "--classes", "background,square")
    assert outcome.code == 0, outcome.stderr
    assert "5 labelled images: i0, i1, i2, i3, i4" in outcome.stdout
    assert f"next: guidino predict {run} IMAGES -o MASKS" in outcome.stdout
    assert "warning" not in outcome.stderr
    facts = RunFolder(run).facts()
    assert facts["classes"] == ["background", "square"]
    own = facts["fewshot"]
    assert (own["labels"], own["unlabelled"]["count"]) == (5, 4)
    assert own["alpha"] == pytest.approx(5**-0.75)
    shares = [np.mean(np.asarray(Image.open(path)) > 0) for path in sorted(masks.iterdir())]
    assert own["thresholds"]["square"]["area"] == pytest.approx(np.mean(shares))
    assert own["labelled"][0] == {
        "id": "i0",
        "image_sha256": file_sha256(images / "i0.png"),
        "mask_sha256": file_sha256(run / "data" / "masks" / "i0.png"),
    }
    assert facts["data"]["aspect_ratios"] == [1.3333, 1.3333]
    assert facts["backbone"]["sha256"]
    assert guidino("predict", run, images, "-o", tmp_path / "predicted", "--device", "cpu").code == 0
    assert len(list((tmp_path / "predicted").glob("*.png"))) == 9


def test_a_run_is_drawn_exported_and_tuned(
    folders: tuple[Path, Path], run: Path, tmp_path: Path, guidino: Guidino, coarse_figures: None
) -> None:
    assert guidino("fewshot", *folders, "-o", run, *SMALL).code == 0
    before = file_sha256(run / "best" / "model.safetensors")
    shown = guidino(
        "visualize-guide", folders[0] / "i7.png", "--run", run, "-o", tmp_path / "pictures", "--device", "cpu"
    )
    assert shown.code == 0, shown.stderr
    assert guidino("export", run, "-o", tmp_path / "run.pt2").code == 0
    tuning = ("lora-tune", run, "-o", tmp_path / "tuned", "--device", "cpu", "--set", "train.epochs=1")
    refused = guidino(*tuning)
    assert refused.code == 3
    assert "5 folds: train them all with --folds 5, or one with --set data.fold=0" in refused.stderr
    tuned = guidino(*tuning, "--set", "data.fold=0")
    assert tuned.code == 0, tuned.stderr
    assert RunFolder(tmp_path / "tuned").facts()["origin"]["sha256"] == before


def test_with_resize_longer_images_keep_their_shape_and_no_padding_is_seen(
    folders: tuple[Path, Path], run: Path, tmp_path: Path, guidino: Guidino
) -> None:
    images, masks = folders
    for number in (1, 3, 6):
        for folder in folders:
            if (path := folder / f"i{number}.png").is_file():
                Image.open(path).crop((0, 0, 24, 48)).save(path)
    outcome = guidino("fewshot", *folders, "-o", run, *SMALL, "--set", "data.resize=longer")
    assert outcome.code == 0, outcome.stderr
    own = RunFolder(run).facts()["fewshot"]["thresholds"]["foreground"]
    shares = [np.mean(np.asarray(Image.open(path)) > 0) for path in sorted(masks.iterdir())]
    assert own["area"] == pytest.approx(np.mean(shares))
    assert guidino("predict", run, images, "-o", tmp_path / "predicted", "--device", "cpu").code == 0
    model, _, _ = load_run(run)
    # 64 px become 48, so these are 48 x 24 px both in their file and for the network: nothing but the model decides.
    for number in (1, 3, 6):
        with torch.no_grad():
            pixels = np.asarray(Image.open(images / f"i{number}.png"))
            expected = model(to_tensor(pixels)[None]).logits[0][0].argmax(dim=0).numpy()
        np.testing.assert_array_equal(read_label_map(tmp_path / "predicted" / f"i{number}.png"), expected)
    refused = guidino("export", run, "-o", tmp_path / "run.pt2")
    assert (refused.code, "make the run again with data.resize=stretch" in refused.stderr) == (2, True)


def test_the_same_labels_give_the_same_weights(folders: tuple[Path, Path], tmp_path: Path, guidino: Guidino) -> None:
    for name in ("a", "b"):
        assert guidino("fewshot", *folders, "-o", tmp_path / name, *SMALL).code == 0
    first, second = (file_sha256(tmp_path / name / "best" / "model.safetensors") for name in ("a", "b"))
    assert first == second


def test_a_prepared_folder_brings_its_masks_and_classes(
    make_data: Callable[..., Path], run: Path, guidino: Guidino
) -> None:
    data = make_data(train=6, val=1, test=1, num_classes=3)
    outcome = guidino("fewshot", data, "-o", run, *SMALL, "--labels", 3)
    assert outcome.code == 0, outcome.stderr
    facts = RunFolder(run).facts()
    assert facts["data"]["cases"] == str(data / "cases.json")
    assert [item["id"] for item in facts["fewshot"]["labelled"]] == ["case0", "case1", "case2"]
    assert set(facts["fewshot"]["thresholds"]) == {"a", "b"}
    # The other training cases; val and test are not looked at.
    assert facts["fewshot"]["unlabelled"]["count"] == 3
    assert not (run / "data").exists()


def test_labels_are_chosen_by_a_list(folders: tuple[Path, Path], run: Path, tmp_path: Path, guidino: Guidino) -> None:
    (tmp_path / "list.txt").write_text("# chosen\ni3.png\ni1\n")
    assert guidino("fewshot", *folders, "-o", run, *SMALL, "--labels", tmp_path / "list.txt").code == 0
    assert [case.id for case in load_manifest(run / "data").cases] == ["i1", "i3"]


def test_one_label_is_warned_of(folders: tuple[Path, Path], run: Path, guidino: Guidino) -> None:
    outcome = guidino("fewshot", *folders, "-o", run, *SMALL, "--labels", 1)
    assert outcome.code == 0
    assert "with one labelled image the result depends on which one it is" in outcome.stderr
    assert RunFolder(run).facts()["fewshot"]["thresholds"]["foreground"]["by_masks"] is None


def test_without_unlabelled_images_thresholds_are_less_sure(
    folders: tuple[Path, Path], run: Path, guidino: Guidino
) -> None:
    outcome = guidino("fewshot", *folders, "-o", run, *SMALL, "--unlabelled-count", 0)
    assert outcome.code == 0
    assert "no unlabelled image" in outcome.stderr


def test_labelled_images_in_the_pool_are_left_out(
    folders: tuple[Path, Path], run: Path, tmp_path: Path, guidino: Guidino
) -> None:
    pool = copytree(folders[0], tmp_path / "pool")
    outcome = guidino("fewshot", *folders, "-o", run, *SMALL, "--unlabelled", pool)
    assert outcome.code == 0
    assert "5 images left out, labelled already" in outcome.stderr
    assert RunFolder(run).facts()["fewshot"]["unlabelled"]["count"] == 4


def test_a_label_without_the_object_is_used_and_named(folders: tuple[Path, Path], run: Path, guidino: Guidino) -> None:
    paint(folders[1] / "i2.png", 0)
    outcome = guidino("fewshot", *folders, "-o", run, *SMALL)
    assert outcome.code == 0
    assert "1 of 5 labelled images without foreground (i2): teaches what it is not" in outcome.stderr


def _spoil_sizes(images: Path, masks: Path) -> None:
    paint(masks / "i1.png", 255, (10, 12))


def _spoil_foreground(images: Path, masks: Path) -> None:
    for path in masks.iterdir():
        paint(path, 0)


def _spoil_background(images: Path, masks: Path) -> None:
    for path in masks.iterdir():
        paint(path, 255)


def _spoil_names(images: Path, masks: Path) -> None:
    for path in list(masks.iterdir()):
        path.rename(path.with_name(f"other{path.name}"))


def _add_a_mask(images: Path, masks: Path) -> None:
    paint(masks / "stranger.png", 255)


@pytest.mark.parametrize(
    ("spoil", "words", "code", "message"),
    [
        (_spoil_sizes, (), 3, "i1.png: is 12x10, its image 64x48"),
        (_spoil_foreground, ("--classes", "0=background,255=square"), 3, "no labelled image has foreground"),
        (_spoil_foreground, (), 3, "no labelled image has foreground"),
        (_spoil_background, ("--classes", "0=background,255=square"), 3, "all labelled images are square throughout"),
        (_spoil_names, (), 3, "no mask is named like an image of"),
        (_add_a_mask, (), 3, "1 mask without an image in"),
        (None, ("--classes", "0=background,255=disc,128=cup"), 3, "no labelled image has a pixel of cup"),
        (None, ("--labels", 6), 2, "holds 5 labels; give 1 to 5"),
        (None, ("--labels", "nowhere.txt"), 2, "expected a number, or a text file"),
        (None, ("--set", "data.resize=shorter"), 2, "set data.resize=stretch"),
        (None, ("--preset", "own-unet"), 2, "have no closed form"),
        (None, ("--set", "model.lora={}"), 2, "guidino lora-tune RUN"),
        (None, ("--set", "model.guide.options.alpha=0"), 2, "alpha > 0"),
    ],
)
def test_labels_that_cannot_be_used_are_answered_in_one_line(
    spoil: Callable[[Path, Path], None] | None, words: tuple, code: int, message: str,
    folders: tuple[Path, Path], run: Path, guidino: Guidino,
) -> None:  # fmt: skip
    if spoil is not None:
        spoil(*folders)
    outcome = guidino("fewshot", *folders, "-o", run, *SMALL, *words)
    assert outcome.code == code
    assert message in outcome.stderr.splitlines()[-1]
    assert ".tmp" not in outcome.stderr
    assert not run.exists()


def test_bad_labels_can_be_left_out(folders: tuple[Path, Path], run: Path, guidino: Guidino) -> None:
    _spoil_sizes(*folders)
    outcome = guidino("fewshot", *folders, "-o", run, *SMALL, "--skip-bad")
    assert outcome.code == 6
    assert "1 label left out, the rest is used" in outcome.stderr
    assert RunFolder(run).facts()["fewshot"]["labels"] == 4


def test_a_prepared_folder_without_a_class_among_its_labels_is_refused(
    make_data: Callable[..., Path], run: Path, guidino: Guidino
) -> None:
    data = make_data(train=4, num_classes=3)
    for number in range(3):
        path = data / "masks" / f"case{number}.png"
        write_label_map(path, np.where(read_label_map(path) == 2, 0, read_label_map(path)).astype(np.uint8))
    outcome = guidino("fewshot", data, "-o", run, *SMALL, "--labels", 3)
    assert outcome.code == 3
    assert "no labelled image has a pixel of b (case0, case1, case2)" in outcome.stderr


def test_one_folder_cannot_be_both(folders: tuple[Path, Path], run: Path, guidino: Guidino) -> None:
    outcome = guidino("fewshot", folders[0], folders[0], "-o", run, *SMALL)
    assert (outcome.code, "is given as IMAGES and as MASKS" in outcome.stderr) == (3, True)


@pytest.mark.parametrize("given", ["masks too", "no masks"])
def test_masks_are_given_for_folders_only(
    given: str, folders: tuple[Path, Path], make_data: Callable[..., Path], run: Path, guidino: Guidino
) -> None:
    words = (make_data(), folders[1]) if given == "masks too" else (folders[0],)
    outcome = guidino("fewshot", *words, "-o", run, *SMALL)
    assert outcome.code == 2
    assert ("leave MASKS out" if given == "masks too" else "give the folder of its masks too") in outcome.stderr


def test_a_run_is_replaced_only_on_request_and_another_folder_never(
    folders: tuple[Path, Path], run: Path, tmp_path: Path, guidino: Guidino
) -> None:
    assert guidino("fewshot", *folders, "-o", run, *SMALL).code == 0
    refused = guidino("fewshot", *folders, "-o", run, *SMALL)
    assert (refused.code, "--overwrite" in refused.stderr) == (2, True)
    assert guidino("fewshot", *folders, "-o", run, *SMALL, "--labels", 2, "--overwrite").code == 0
    assert json.loads((run / "run.json").read_text())["fewshot"]["labels"] == 2
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("")
    assert guidino("fewshot", *folders, "-o", other, *SMALL, "--overwrite").code == 2
    assert (other / "thesis.tex").exists()


def test_without_its_weights_the_included_backbone_is_taken_and_named(
    folders: tuple[Path, Path], run: Path, guidino: Guidino, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("guidino_cli.commands.fewshot.find_embedded_file", lambda: None)
    outcome = guidino("fewshot", *folders, "-o", run, "--device", "cpu", "--set", "data.image_size=42")
    assert outcome.code == 0, outcome.stderr
    assert "backbone guidino-tiny; embedded is a little better: guidino weights download embedded" in outcome.stderr
    assert RunFolder(run).facts()["backbone"]["weights"].startswith("guidino-tiny")
    assert RunFolder(run).config().model.backbone.name == "guidino-tiny"
