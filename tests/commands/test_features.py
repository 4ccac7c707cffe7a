"""`guidino features`: vectors are right, written once, resumed after a kill, and refused for another backbone."""

import json
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from guidino_cli.data.feature_folder import read_feature_folder
from guidino_cli.engine.features import extraction
from guidino_cli.models import build_backbone

Guidino = Callable[..., Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seventy pictures of two classes: two parts of 64 and 6."""
    generator = np.random.default_rng(0)
    root = tmp_path / "images"
    for number in range(70):
        path = root / ("dark", "light")[number % 2] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        level = (60, 160)[number % 2]
        Image.fromarray(generator.integers(level - 40, level + 40, (30, 40), dtype=np.uint8)).save(path)
    return root


def _run(guidino: Guidino, folder: Path, out: Path, *words: object) -> Any:
    return guidino("features", folder, "-o", out, "--px", 28, *words)


def test_the_vector_of_an_image_is_the_mean_of_its_patch_tokens(guidino: Guidino, folder: Path, tmp_path: Path) -> None:
    assert _run(guidino, folder, tmp_path / "f", "--no-controls").code == 0
    features = read_feature_folder(tmp_path / "f")
    path = features.items[5].item.path
    pixels = np.asarray(Image.open(path).convert("RGB").resize((28, 28), Image.Resampling.BILINEAR))
    image = torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None].float() / 255
    expected = build_backbone("guidino-tiny", {}, frozen=True)(image)[-1][0].flatten(1).mean(dim=1)
    found = features.vectors_of(features.items[5], "backbone")
    assert (found.dtype, found.shape) == (np.float16, (1, 384))
    np.testing.assert_allclose(found[0].astype(np.float32), expected.numpy(), rtol=1e-3, atol=2e-3)


def test_class_token_and_four_blocks_stand_side_by_side(guidino: Guidino, folder: Path, tmp_path: Path) -> None:
    assert _run(guidino, folder, tmp_path / "f", "--no-controls", "--token", "cls+mean", "--layers", 4).code == 0
    features = read_feature_folder(tmp_path / "f")
    found = features.vectors_of(features.items[0], "backbone")[0].astype(np.float32)
    pixels = np.asarray(
        Image.open(features.items[0].item.path).convert("RGB").resize((28, 28), Image.Resampling.BILINEAR)
    )
    image = torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None].float() / 255
    # The network itself, without the class that wraps it: all tokens of the last block, class token first.
    network = build_backbone("guidino-tiny", {}, frozen=True)
    tokens = network.vit(network.normalizer(image))[0].detach().numpy()
    assert found.shape == (4 * 2 * 384,)
    np.testing.assert_allclose(found[-768:-384], tokens[0], rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(found[-384:], tokens[1:].mean(axis=0), rtol=1e-3, atol=1e-2)


def test_controls_are_a_random_network_of_the_same_shape_and_the_pixels(
    guidino: Guidino, folder: Path, tmp_path: Path
) -> None:
    assert _run(guidino, folder, tmp_path / "f").code == 0
    features = read_feature_folder(tmp_path / "f")
    assert features.kinds == ("backbone", "random", "pixels")
    item = features.items[3]
    rows = {kind: features.vectors_of(item, kind)[0].astype(np.float32) for kind in features.kinds}
    assert rows["backbone"].shape == rows["random"].shape
    assert np.corrcoef(rows["backbone"], rows["random"])[0, 1] < 0.5
    pixels = np.asarray(Image.open(item.item.path).convert("RGB").resize((28, 28), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(rows["pixels"], pixels.transpose(2, 0, 1).reshape(-1) / 255, atol=1e-3)


def test_pictures_are_read_while_the_network_computes(
    guidino: Guidino, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, compute = extraction.FeatureExtractor._read, extraction.image_vectors
    begun, fifth, seen = [], Event(), []

    def note(self: Any, item: Any) -> Any:
        begun.append(item.id)
        if len(begun) == 5:
            fifth.set()
        return read(self, item)

    def wait_for_the_fifth(*arguments: Any) -> np.ndarray:
        seen.append(fifth.wait(timeout=20))
        return compute(*arguments)

    monkeypatch.setattr(extraction.FeatureExtractor, "_read", note)
    monkeypatch.setattr(extraction, "image_vectors", wait_for_the_fifth)
    assert _run(guidino, folder, tmp_path / "f", "--no-controls", "--batch", 4).code == 0
    # The network had the first four.
    assert seen[0]


def test_a_second_call_computes_nothing(
    guidino: Guidino, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _run(guidino, folder, tmp_path / "f", "--no-controls")
    monkeypatch.setattr(extraction, "image_vectors", None)
    again = _run(guidino, folder, tmp_path / "f", "--no-controls")
    assert (again.code, "nothing to compute" in again.stdout) == (0, True)


def test_a_killed_call_is_gone_on_with(
    guidino: Guidino, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute, calls = extraction.image_vectors, []

    def die_in_the_second_part(*arguments: Any) -> np.ndarray:
        calls.append(len(arguments[1]))
        if sum(calls) > 64:
            raise KeyboardInterrupt
        return compute(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(extraction, "image_vectors", die_in_the_second_part)
        stopped = _run(guidino, folder, tmp_path / "f", "--no-controls")
    assert (stopped.code, stopped.stderr.count("\n")) == (130, 1)
    assert not json.loads((tmp_path / "f" / "features.json").read_text())["complete"]
    done = _run(guidino, folder, tmp_path / "f", "--no-controls")
    assert (done.code, "; 6 items computed" in done.stdout) == (0, True)
    _run(guidino, folder, tmp_path / "whole", "--no-controls")
    for one, other in zip(
        read_feature_folder(tmp_path / "f").items, read_feature_folder(tmp_path / "whole").items, strict=True
    ):
        assert one == other
    np.testing.assert_array_equal(
        np.load(tmp_path / "f" / "all" / "backbone.npy"), np.load(tmp_path / "whole" / "all" / "backbone.npy")
    )


def test_features_of_another_backbone_are_refused_with_both_digests(
    guidino: Guidino, folder: Path, tmp_path: Path
) -> None:
    _run(guidino, folder, tmp_path / "f", "--no-controls")
    before = json.loads((tmp_path / "f" / "features.json").read_text())["backbone"]["sha256"]
    done = _run(guidino, folder, tmp_path / "f", "--no-controls", "--backbone", "random")
    now = build_backbone("random", {}).identity["sha256"]
    assert (done.code, done.stderr.count("\n")) == (2, 1)
    assert before in done.stderr
    assert now in done.stderr


@pytest.mark.parametrize(("words", "text"), [(("--token", "cls"), "token mean and not cls"), (("--px", 56), "px 28")])
def test_features_of_other_settings_are_refused(
    words: tuple[object, ...], text: str, guidino: Guidino, folder: Path, tmp_path: Path
) -> None:
    _run(guidino, folder, tmp_path / "f", "--no-controls")
    done = _run(guidino, folder, tmp_path / "f", "--no-controls", *words)
    assert (done.code, done.stderr.count("\n")) == (2, 1)
    assert text in done.stderr


def test_a_damaged_folder_of_features_can_be_begun_anew(guidino: Guidino, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "features.json").write_text("{")
    done = _run(guidino, folder, tmp_path / "f", "--no-controls")
    assert (done.code, "run `guidino features` again with --overwrite" in done.stderr) == (3, True)
    assert _run(guidino, folder, tmp_path / "f", "--no-controls", "--overwrite").code == 0


def test_a_changed_image_is_noticed(guidino: Guidino, folder: Path, tmp_path: Path) -> None:
    _run(guidino, folder, tmp_path / "f", "--no-controls")
    Image.new("L", (40, 30)).save(folder / "dark" / "00.png")
    done = _run(guidino, folder, tmp_path / "f", "--no-controls")
    assert done.code == 2
    assert "1 file changed since its features were written" in done.stderr


def test_files_that_were_missing_are_computed_once_they_are_there(guidino: Guidino, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("image,label\na.png,x\nb.png,y\n")
    done = _run(guidino, table, tmp_path / "f", "--no-controls")
    assert (done.code, "none of 2 items has vectors; the first: " in done.stderr) == (3, True)
    for name in ("a", "b"):
        Image.new("L", (30, 30), ord(name)).save(tmp_path / f"{name}.png")
    assert _run(guidino, table, tmp_path / "f", "--no-controls").code == 0


def test_a_bad_file_is_left_out_and_named(guidino: Guidino, folder: Path, tmp_path: Path) -> None:
    (folder / "dark" / "00.png").write_bytes(b"no image")
    done = _run(guidino, folder, tmp_path / "f", "--no-controls")
    assert (done.code, done.stderr.count("\n")) == (6, 1)
    assert f"the rest is written: {folder / 'dark' / '00.png'}: cannot be read as an image" in done.stderr
    counts = [entry.count for entry in read_feature_folder(tmp_path / "f").items]
    assert (counts[0], sum(counts)) == (0, 69)


def test_tiles_of_mixed_size_are_refused_where_none_is_given(guidino: Guidino, folder: Path, tmp_path: Path) -> None:
    Image.new("L", (56, 56)).save(folder / "light" / "99.png")
    done = guidino("features", folder, "-o", tmp_path / "f", "--px", "native", "--no-controls")
    assert (done.code, done.stderr.count("\n")) == (3, 1)
    assert "99.png: is 56x56, others are 40x30" in done.stderr


def test_white_tiles_are_background(guidino: Guidino, folder: Path, tmp_path: Path) -> None:
    Image.new("L", (40, 30), 255).save(folder / "light" / "99.png")
    done = _run(guidino, folder, tmp_path / "f", "--no-controls", "--min-tissue", 0.5)
    assert done.code == 6
    assert "light/99.png: less than 0.5 of it is tissue" in done.stderr


def test_a_volume_has_a_vector_a_slice(guidino: Guidino, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (4, 10, 12, 14), dtype=np.uint8)
    path = tmp_path / "set.npz"
    np.savez(path, train_images=images, train_labels=np.array([[0], [1], [0], [1]]))
    assert _run(guidino, path, tmp_path / "f", "--no-controls", "--every", 4).code == 0
    features = read_feature_folder(tmp_path / "f")
    # Slices 2 and 6 of 10.
    assert [entry.count for entry in features.items] == [2] * 4
    one = Image.fromarray(images[3, 6].astype(np.float32) / 255).resize((28, 28), Image.Resampling.BILINEAR)
    image = torch.from_numpy(np.asarray(one).copy()).expand(1, 3, 28, 28)
    expected = build_backbone("guidino-tiny", {}, frozen=True)(image)[-1][0].flatten(1).mean(dim=1)
    np.testing.assert_allclose(
        features.vectors_of(features.items[3], "backbone")[1], expected.numpy(), rtol=1e-3, atol=2e-3
    )


def test_corrected_labels_are_taken_without_computing(
    guidino: Guidino, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = sorted(folder.rglob("*.png"))[:6]
    table = folder / "labels.csv"
    rows = [f"{path.relative_to(folder)},{'ab'[number % 2]}" for number, path in enumerate(paths)]
    table.write_text("\n".join(["image,label", *rows]) + "\n")
    _run(guidino, table, tmp_path / "f", "--no-controls")
    table.write_text("\n".join(["image,label", *rows[:-1], f"{paths[5].relative_to(folder)},a"]) + "\n")
    monkeypatch.setattr(extraction, "image_vectors", None)
    assert _run(guidino, table, tmp_path / "f", "--no-controls").code == 0
    assert [entry.item.labels[0] for entry in read_feature_folder(tmp_path / "f").items] == [0, 1, 0, 1, 0, 0]


def _copy(folder: Path, target: Path, *, level: int | None = None) -> Path:
    """The same names elsewhere, older than any features: the same pictures, or plain ones of a level."""
    for path in folder.rglob("*.png"):
        other = target / path.relative_to(folder)
        other.parent.mkdir(parents=True, exist_ok=True)
        if level is None:
            other.write_bytes(path.read_bytes())
        else:
            Image.new("L", (40, 30), level).save(other)
    return target


def test_files_of_the_same_names_in_another_folder_are_compared(guidino: Guidino, folder: Path, tmp_path: Path) -> None:
    other, alike = _copy(folder, tmp_path / "other", level=9), _copy(folder, tmp_path / "alike")
    _run(guidino, folder, tmp_path / "f", "--no-controls")
    done = _run(guidino, other, tmp_path / "f", "--no-controls")
    assert (done.code, "70 files changed since its features were written" in done.stderr) == (2, True)
    assert _run(guidino, alike, tmp_path / "f", "--no-controls").code == 0
    assert read_feature_folder(tmp_path / "f").items[0].item.path.is_relative_to(alike)


def test_a_folder_put_in_the_place_of_another_is_noticed(guidino: Guidino, folder: Path, tmp_path: Path) -> None:
    other = _copy(folder, tmp_path / "other", level=9)
    _run(guidino, folder, tmp_path / "f", "--no-controls")
    folder.rename(tmp_path / "away")
    other.rename(folder)
    assert _run(guidino, folder, tmp_path / "f", "--no-controls").code == 2


def test_a_killed_call_does_not_go_on_with_other_files_of_the_same_names(
    guidino: Guidino, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = _copy(folder, tmp_path / "other", level=9)
    with monkeypatch.context() as patch:
        patch.setattr(extraction.FeatureExtractor, "_join", _stop)
        assert _run(guidino, folder, tmp_path / "f", "--no-controls").code != 0
    for _ in range(2):
        done = _run(guidino, other, tmp_path / "f", "--no-controls")
        assert (done.code, "has changed since its features were written" in done.stderr) == (3, True)


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def test_missing_voxels_take_the_smallest_value(guidino: Guidino, tmp_path: Path) -> None:
    import nibabel

    values = np.random.default_rng(0).normal(size=(12, 12, 2)).astype(np.float32)
    values[3, 4, 1] = np.nan
    filled = np.where(np.isnan(values), np.nanmin(values), values)
    for name, content in (("a", values), ("b", filled)):
        nibabel.save(nibabel.Nifti1Image(content, np.eye(4)), tmp_path / f"{name}.nii.gz")
    (tmp_path / "set.csv").write_text("image,label\na.nii.gz,x\nb.nii.gz,y\n")
    assert _run(guidino, tmp_path / "set.csv", tmp_path / "f", "--no-controls").code == 0
    features = read_feature_folder(tmp_path / "f")
    one, other = (features.vectors_of(entry, "backbone") for entry in features.items)
    np.testing.assert_array_equal(one, other)
