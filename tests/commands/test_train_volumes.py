"""`guidino train` on prepared volumes: slices, slabs and patches, resuming, and what it refuses."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from volumes_data import make_volumes

from guidino_cli.data.volumes.stored import open_array
from guidino_cli.engine.run_control import RunControl
from guidino_cli.errors import StoppedError

Caller = Callable[..., "object"]

pytestmark = pytest.mark.usefixtures("figures_where_marked")

_SLICES = """
description: a tiny network on slices
model:
  segmenter: {name: unet, options: {width: 4}}
data: {image_size: 32, resize: none, augment: nnunet}
train: {epochs: 2, steps: 3, batch_size: 3, lr: 1e-2}
predict: {overlap: 0, mirror: false}
"""
_PATCHES = """
description: a tiny network on patches
model:
  segmenter: {name: unet3d, options: {widths: [4, 8, 8]}}
data: {dims: 3, patch_size: [16, 16, 16], augment: nnunet}
train: {epochs: 2, steps: 3, batch_size: 2, lr: 1e-2}
predict: {overlap: 0, mirror: false}
"""
_GUIDED = """
description: a tiny guided network on slices
model:
  segmenter: {name: unet, options: {width: 4}}
  backbone: {name: random, options: {hidden_size: 32, depth: 1, heads: 2}}
  guide: {at: bottleneck, options: {prototypes: 4, aggregate: softmax}}
data: {image_size: 32, resize: stretch, augment: none}
train: {epochs: 2, steps: 4, batch_size: 3, lr: 1e-2, loss: {dice: 1, cross_entropy: 1, guide: 0.1}}
predict: {overlap: 0, mirror: false}
"""
_LIGHT = """
description: the light decoder on maps of slices
model:
  segmenter: {name: light3d, options: {widths: [8, 8, 4, 4]}}
  backbone: {name: random, options: {hidden_size: 32, depth: 1, heads: 2}}
data: {dims: 3, patch_size: [4, 32, 32], augment: none}
train: {epochs: 1, steps: 8, batch_size: 2, lr: 1e-2}
predict: {overlap: 0, mirror: false}
"""


@pytest.fixture
def train(guidino, tmp_path: Path):
    """Call `guidino train` with a preset's text and, by default, a fresh folder of volumes, into `run`."""
    shared = tmp_path / "volumes"

    def call(preset: str, *words: object, data: Path | None = None, out: str = "run"):
        if data is None and not shared.exists():
            make_volumes(tmp_path)
        (tmp_path / "tiny.yaml").write_text(preset)
        place = ("-p", tmp_path / "tiny.yaml", "-d", data or shared, "-o", tmp_path / out)
        return guidino("train", *place, "--device", "cpu", *words)

    return call


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


def _message(stderr: str) -> str:
    return stderr.strip().splitlines()[-1]


def _history(run: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]


def _weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "best" / "model.safetensors")


@pytest.mark.parametrize(
    ("preset", "units", "words"),
    [
        (_SLICES, "slices", ()),
        (_SLICES, "slices", ("--set", "data.dims=2.5")),
        (_SLICES, "slices", ("--set", "data.resize=shorter", "--set", "data.slice_axis=y")),
        (_GUIDED, "slices", ("--set", "data.dims=2.5", "--set", "data.slab=5")),
        (_PATCHES, "patches", ()),
        (_PATCHES, "patches", ("--set", "data.intensity=zscore")),
    ],
)
def test_two_epochs_leave_a_run_that_can_be_loaded(
    train, run: Path, preset: str, units: str, words: tuple[str, ...]
) -> None:
    from guidino_cli.engine.runs.loading import load_run

    if "unet3d" in preset:
        pytest.importorskip("monai")
    outcome = train(preset, *words)
    assert outcome.code == 0, outcome.stderr
    assert f"{units}/s" in outcome.stderr
    assert "images/s" not in outcome.stderr
    first, second = _history(run)
    assert {"loss", "val_dice", f"{units}_per_second"} <= set(first)
    assert first["loss"] != second["loss"]
    model, _, facts = load_run(run)
    assert facts["classes"] == ["background", "a"]
    assert facts["volumes"]["channels"] == ["MR"]
    assert model.in_channels == {2: 1, 3: 1, 2.5: 5 if "data.slab=5" in words else 3}[facts["volumes"]["dims"]]


@pytest.mark.parametrize("preset", [_SLICES, _PATCHES])
def test_an_interrupted_run_that_is_resumed_has_the_same_weights_bit_for_bit(
    train, guidino, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preset: str
) -> None:
    if "unet3d" in preset:
        pytest.importorskip("monai")
    assert train(preset, out="whole").code == 0
    sync, calls = RunControl.sync, 0

    def stop_in_the_second_epoch(control, state, batch, **options):
        nonlocal calls
        calls += 1
        if calls == 5:
            control._checkpoints.save(state)
            raise StoppedError("stopped")
        return sync(control, state, batch, **options)

    with monkeypatch.context() as patch:
        patch.setattr(RunControl, "sync", stop_in_the_second_epoch)
        assert train(preset).code != 0
    assert guidino("train", "--resume", "-o", run, "--device", "cpu").code == 0
    resumed, whole = _weights(run), _weights(tmp_path / "whole")
    assert resumed.keys() == whole.keys()
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
    assert [row["loss"] for row in _history(run)] == [row["loss"] for row in _history(tmp_path / "whole")]


def test_workers_do_not_change_the_weights(train, tmp_path: Path) -> None:
    assert train(_SLICES, out="one").code == 0
    assert train(_SLICES, "--set", "train.workers=2", out="two").code == 0
    one, two = _weights(tmp_path / "one"), _weights(tmp_path / "two")
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_cached_features_of_slices_are_those_of_the_same_slice(train, tmp_path: Path) -> None:
    assert train(_GUIDED, out="cached").code == 0
    assert train(_GUIDED, "--set", "train.dense_cache_gb=0", out="plain").code == 0
    cached, plain = _weights(tmp_path / "cached"), _weights(tmp_path / "plain")
    for name in plain:
        torch.testing.assert_close(cached[name], plain[name], atol=1e-5, rtol=1e-3)


@pytest.mark.figures
def test_figures_show_volumes(train, run: Path) -> None:
    outcome = train(_SLICES)
    assert outcome.code == 0, outcome.stderr
    assert {"curve.png", "validation.png"} <= {path.name for path in run.iterdir()}


def test_summary_says_what_is_seen_of_the_volumes(train) -> None:
    stderr = train(_SLICES, "--dry-run").stderr
    assert "slices of 32 x 32 px, resize none" in stderr
    assert "MR mapped by percentile; voxels of their own spacing; slices along z" in stderr
    assert "2 epochs of 3 steps, batch 3" in stderr
    stderr = train(_SLICES, "--dry-run", "--set", "data.dims=2.5", "--set", "train.steps=0").stderr
    assert "slabs of 3 slices of 32 x 32 px" in stderr
    assert "2 epochs of 250 steps" in stderr


def test_folds_are_trained_one_by_one(train, tmp_path: Path) -> None:
    data = make_volumes(tmp_path, "folds", train=4, val=0, fold_count=2)
    assert train(_SLICES, "--set", "data.fold=1", data=data).code == 0


def test_ignored_voxels_count_neither_in_the_loss_nor_in_validation(train, run: Path, tmp_path: Path) -> None:
    data = make_volumes(tmp_path, "partly", ignore_label=7)
    outcome = train(_SLICES, "--set", "train.class_weights=[1,3]", data=data)
    assert outcome.code == 0, outcome.stderr
    assert all(np.isfinite(float(str(row["loss"]))) for row in _history(run))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("data.dims=3",), "segmenter unet segments images and slices, but data.dims is 3: set data.dims=2"),
        (("data.patch_size=[8,8,8]",), "data.patch_size needs data.dims=3, found 2"),
        (("data.slab=5",), "data.slab needs data.dims=2.5, found 2"),
        (("data.augment=nnunet-0.1", "data.intensity=zscore"), "nnunet-0.1, which clips to [0, 1]"),
        (("train.class_weights=[1,1,1]",), "train.class_weights has 3 weights, but the data has 2 classes"),
        (("data.image_size=33",), "data.image_size is 33, but the segmenter needs a multiple of 16, such as 32"),
        (("train.epochs=0",), "train.epochs"),
    ],
)
def test_settings_that_do_not_fit_are_one_line(train, run: Path, words: tuple[str, ...], message: str) -> None:
    outcome = train(_SLICES, *(item for word in words for item in ("--set", word)))
    assert outcome.code == 2
    assert message in _message(outcome.stderr)
    assert not run.exists()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("data.patch_size=[16,16,14]", "data.patch_size is [16, 16, 14], but the segmenter needs multiples of"),
        ("data.augment=guidino", "data.augment is guidino, but patches of volumes (data.dims=3) have none, light and"),
        ("data.dims=2", "data.patch_size needs data.dims=3"),
    ],
)
def test_settings_that_do_not_fit_patches_are_one_line(train, word: str, message: str) -> None:
    pytest.importorskip("monai")
    outcome = train(_PATCHES, "--set", word)
    assert outcome.code == 2
    assert message in _message(outcome.stderr)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("data.dims=2.5", "data.dims is a setting of volumes, but data holds images; leave it out"),
        ("data.intensity=ct", "data.intensity is a setting of volumes, but data holds images"),
        ("train.steps=10", "train.steps is a setting of volumes, but data holds images"),
    ],
)
def test_settings_of_volumes_are_refused_for_images(
    train, make_data: Callable[..., Path], word: str, message: str
) -> None:
    preset = _SLICES.replace(" steps: 3,", "")
    outcome = train(preset, "--set", word, data=make_data())
    assert outcome.code == 2
    assert message in _message(outcome.stderr)


def test_sources_are_not_needed_in_training(train, tmp_path: Path) -> None:
    data = make_volumes(tmp_path, "moved")
    for path in (data / "sources").iterdir():
        path.unlink()
    assert train(_SLICES, data=data).code == 0


def test_a_damaged_array_is_named_and_the_run_can_be_resumed(train, guidino, run: Path, tmp_path: Path) -> None:
    data = make_volumes(tmp_path, "damaged", train=1)
    broken = data / "volumes" / "case0.npy"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:200])
    outcome = train(_SLICES, data=data)
    assert outcome.code == 3
    assert "case0.npy" in _message(outcome.stderr)
    broken.write_bytes(whole)
    assert open_array(broken).shape[0] == 1
    assert guidino("train", "--resume", "-o", run, "--device", "cpu").code == 0


def test_maps_of_slices_are_kept_on_disk_and_used_by_the_next_run(train, tmp_path: Path) -> None:
    cache = ("--set", "train.dense_cache=disk", "--set", f"train.dense_cache_folder={tmp_path / 'cache'}")
    first = train(_LIGHT, *cache, out="first")
    assert first.code == 0, first.stderr
    assert "maps of training volumes are kept in" in first.stderr
    files = sorted((tmp_path / "cache").glob("*/volumes/*.npy"))
    assert len(files) == 3
    written = [path.stat().st_mtime_ns for path in files]
    assert train(_LIGHT, *cache, out="second").code == 0
    assert [path.stat().st_mtime_ns for path in files] == written
    first_weights, second_weights = _weights(tmp_path / "first"), _weights(tmp_path / "second")
    assert all(torch.equal(first_weights[name], second_weights[name]) for name in first_weights)


def test_maps_of_volumes_larger_than_the_patches_are_not_cached(train, tmp_path: Path) -> None:
    cache = ("--set", "train.dense_cache=disk", "--set", f"train.dense_cache_folder={tmp_path / 'cache'}")
    outcome = train(_LIGHT, *cache, "--set", "data.patch_size=[4,16,16]")
    assert outcome.code == 0, outcome.stderr
    assert "maps of training volumes are not cached: that needs data.augment=none" in outcome.stderr
    assert not list((tmp_path / "cache").glob("*/volumes/*"))
