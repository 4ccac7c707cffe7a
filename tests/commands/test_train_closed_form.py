"""A run whose guide is solved in closed form, by every command that takes a run; and what cannot be solved."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from PIL import Image

from guidino_cli.config import parse_config
from guidino_cli.errors import ConfigError

Maker = Callable[..., Path]

pytestmark = pytest.mark.usefixtures("no_figures", "coarse_figures")

_PRESET = """
model:
  segmenter: {name: dilated-cnn, options: {width: 4, dilations: [1, 2]}}
  backbone: {name: random, options: {hidden_size: 32, depth: 1, heads: 2}}
  guide: {name: ridge, at: logits, per_class: true, fit: closed-form, tokens: 3}
  reduction: 2
data: {image_size: 32, augment: dihedral}
train: {epochs: 1, batch_size: 2, lr: 1e-2, loss: {dice: 1, cross_entropy: 1}}
predict: {overlap: 0, mirror: false}
"""


@pytest.fixture(scope="module")
def data(make_data_in: Maker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data_in(tmp_path_factory.mktemp("closed"), train=6, val=2, test=2, num_classes=3)


@pytest.fixture(scope="module")
def preset_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("preset") / "closed.yaml"
    path.write_text(_PRESET)
    return path


@pytest.fixture(scope="module")
def run(guidino_once: Callable[..., None], data: Path, preset_file: Path) -> Path:
    path = preset_file.parent / "run"
    guidino_once("train", "-p", preset_file, "-d", data, "-o", path, "--device", "cpu")
    return path


def test_the_run_records_what_was_solved(run: Path) -> None:
    found = json.loads((run / "run.json").read_text())["guide_fit"]
    assert (found["images"], found["folds"], found["alpha"]) == (6, 5, 0.01)
    assert [len(found[name]) for name in ("areas", "thresholds", "deviations")] == [2, 2, 2]


def test_predict_writes_masks_and_guides_that_evaluate_takes(run: Path, data: Path, guidino, tmp_path: Path) -> None:
    outcome = guidino("predict", run, data / "images", "-o", tmp_path / "out", "--save-guide", "--device", "cpu")
    assert outcome.code == 0, outcome.stderr
    written = [path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*.png")]
    assert [path for path in written if "guide" in str(path)], written
    outcome = guidino("tune-post", run, "--data", data, "--device", "cpu")
    assert outcome.code == 0, outcome.stderr


def test_predict_says_that_an_image_is_deformed(run: Path, data: Path, guidino, tmp_path: Path) -> None:
    assert json.loads((run / "run.json").read_text())["data"]["aspect_ratios"] == [1.2, 1.2]
    narrow = tmp_path / "narrow.png"
    Image.new("RGB", (24, 40)).save(narrow)
    outcome = guidino("predict", run, narrow, data / "images", "-o", tmp_path / "out", "--device", "cpu")
    assert outcome.code == 0, outcome.stderr
    assert "1 of 11 images is of another shape than all training images: width/height 0.60" in outcome.stderr


def test_the_padding_of_wide_images_is_no_background(
    make_data: Maker, preset_file: Path, guidino, tmp_path: Path
) -> None:
    """Half of each sample is padding: areas of regions that counted it would be half as large."""
    data, run = make_data(train=4, size_hw=(32, 64)), tmp_path / "run"
    settings = ("--set", "data.resize=longer", "--set", "data.image_size=64")
    outcome = guidino("train", "-p", preset_file, "-d", data, "-o", run, *settings, "--device", "cpu")
    assert outcome.code == 0, outcome.stderr
    (found,) = json.loads((run / "run.json").read_text())["guide_fit"]["areas"]
    # 14 x 14 px of 32 x 64.
    assert found == pytest.approx(14 * 14 / (32 * 64), rel=0.01)
    image = min(data.rglob("images/*.png"))
    assert guidino("predict", run, image, "-o", tmp_path / "out", "--device", "cpu").code == 0


def test_an_exported_run_gives_the_same_maps(run: Path, guidino, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    outcome = guidino("export", run, "-o", tmp_path / "net.onnx")
    assert outcome.code == 0, outcome.stderr


def test_its_guide_can_be_looked_at(run: Path, data: Path, guidino, tmp_path: Path) -> None:
    image = min(data.rglob("images/*.png"))
    outcome = guidino("visualize-guide", image, "--run", run, "-o", tmp_path / "figures", "--device", "cpu")
    assert outcome.code == 0, outcome.stderr


def test_two_seeds_are_an_ensemble(run: Path, data: Path, preset_file: Path, guidino, tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert guidino("train", "-p", preset_file, "-d", data, "-o", other, "--seed", 1, "--device", "cpu").code == 0
    image = min(data.rglob("images/*.png"))
    outcome = guidino("predict", run, image, "-o", tmp_path / "out", "--ensemble", other, "--device", "cpu")
    assert outcome.code == 0, outcome.stderr


def test_a_run_can_start_from_another_and_solves_its_own_guide(
    run: Path, make_data: Maker, preset_file: Path, guidino, tmp_path: Path
) -> None:
    new = make_data("new", train=6, seed=5, num_classes=3)
    outcome = guidino("train", "-p", preset_file, "-d", new, "-o", tmp_path / "run", "--from", run, "--device", "cpu")
    assert outcome.code == 0, outcome.stderr
    fits = [json.loads((path / "run.json").read_text())["guide_fit"] for path in (run, tmp_path / "run")]
    assert fits[0]["thresholds"] != fits[1]["thresholds"]


def test_its_guide_cannot_be_taken_by_another_run(
    run: Path, data: Path, preset_file: Path, guidino, tmp_path: Path
) -> None:
    given = (f"model.guide.from_run={run}", "model.guide.fit=gradient", "model.guide.tokens=0")
    words = [word for setting in given for word in ("--set", setting)]
    outcome = guidino("train", "-p", preset_file, "-d", data, "-o", tmp_path / "run", "--device", "cpu", *words)
    assert outcome.code == 2
    assert "was solved in closed form, for its own training images" in " ".join(outcome.stderr.split())


def test_lora_tune_says_how_to_train_with_lora_instead(run: Path, data: Path, guidino, tmp_path: Path) -> None:
    outcome = guidino("lora-tune", run, "--data", data, "-o", tmp_path / "tuned", "--device", "cpu")
    assert outcome.code == 2
    assert "model.guide.fit=closed-form solves the guide on tokens that model.lora would change" in outcome.stderr


def test_training_images_of_one_patient_are_refused_in_one_line(
    data: Path, preset_file: Path, guidino, tmp_path: Path
) -> None:
    import shutil

    from guidino_cli.data.manifest import MANIFEST_NAME

    one = shutil.copytree(data, tmp_path / "one")
    content = json.loads((one / MANIFEST_NAME).read_text())
    for case in content["cases"]:
        case["group"] = "patient"
    (one / MANIFEST_NAME).write_text(json.dumps(content))
    outcome = guidino("train", "-p", preset_file, "-d", one, "-o", tmp_path / "run", "--device", "cpu")
    assert outcome.code == 2
    assert "one group of 6 images" in " ".join(outcome.stderr.split())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"lora": {}}}, "tokens that model.lora would change"),
        ({"model": {"finetune": {}}}, "tokens that model.finetune would change"),
        ({"model": {"guide": {"name": "tokenbook"}}}, "solves guide ridge, found tokenbook"),
        ({"model": {"guide": {"from_run": "runs/a"}}}, "choose one"),
        ({"model": {"guide": {"fit": "gradient"}}}, "model.guide.tokens is 3, which needs"),
        ({"model": {"guide": {"at": "input"}}}, "model.guide.tokens is 3, which needs"),
        ({"train": {"loss": {"guide": 1}}}, "train.loss.guide changes nothing"),
    ],
)
def test_settings_that_contradict_a_guide_in_closed_form_are_refused(change: dict, message: str) -> None:
    settings = yaml.safe_load(_PRESET)
    for section, values in change.items():
        for name, value in values.items():
            old = settings[section].get(name)
            settings[section][name] = old | value if isinstance(old, dict) and isinstance(value, dict) else value
    with pytest.raises(ConfigError, match=message):
        parse_config(settings)


def test_few_images_are_taken_more_often_and_the_run_resumes_with_its_epochs(
    data: Path, preset_file: Path, guidino, tmp_path: Path
) -> None:
    """Six images in batches of two are three steps an epoch."""
    words = ("-d", data, "-o", tmp_path / "run", "--device", "cpu", "--set", "train.min_steps=5")
    outcome = guidino("train", "-p", preset_file, *words)
    assert outcome.code == 0, outcome.stderr
    assert "2 epochs instead of 1: an epoch of 6 images has 3 steps" in " ".join(outcome.stderr.split())
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["train"]["epochs"] == 2
    again = guidino("train", "--resume", "-o", tmp_path / "run", "--device", "cpu")
    assert again.code == 0, again.stderr
    assert "is finished: 2 of 2 epochs" in again.stdout
    named = guidino(
        "train", "--resume", "-o", tmp_path / "run", "-p", preset_file, "--device", "cpu", "--set", "train.min_steps=5"
    )
    assert named.code == 0, named.stderr


def test_a_run_with_more_steps_is_extended_under_the_name_of_its_preset(data: Path, guidino, tmp_path: Path) -> None:
    """Its warm-up is that of the two epochs that it began with, however often it is extended."""
    preset, other = tmp_path / "steps.yaml", tmp_path / "other.yaml"
    preset.write_text(_PRESET.replace("lr: 1e-2", "lr: 1e-2, min_steps: 5, warmup_epochs: 0.5"))
    other.write_text(preset.read_text().replace("lr: 1e-2", "lr: 1e-3"))
    assert guidino("train", "-p", preset, "-d", data, "-o", tmp_path / "run", "--device", "cpu").code == 0
    words = ("train", "--resume", "-o", tmp_path / "run", "--device", "cpu")
    for epochs in (3, 4):
        longer = guidino(*words, "-p", preset, "--set", f"train.epochs={epochs}")
        assert longer.code == 0, longer.stderr
    settings = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["train"]
    assert (settings["epochs"], settings["warmup_epochs"]) == (4, 1.0)
    refused = guidino(*words, "-p", other, "--set", "train.epochs=5")
    assert (refused.code, "differ from preset" in refused.stderr) == (2, True)


def test_patience_is_compared_with_the_epochs_that_the_run_will_have(
    data: Path, preset_file: Path, guidino, tmp_path: Path
) -> None:
    words = ("-p", preset_file, "-d", data, "-o", tmp_path / "run", "--device", "cpu", "--set", "train.patience=2")
    # Three steps an epoch: 7 steps are three epochs, 6 are two.
    outcome = guidino("train", *words, "--set", "train.min_steps=7", "--dry-run")
    assert outcome.code == 0, outcome.stderr
    for steps in ("0", "6"):
        outcome = guidino("train", *words, "--set", f"train.min_steps={steps}", "--dry-run")
        epochs = {"0": "1 epoch", "6": "2 epochs"}[steps]
        assert (outcome.code, f"train.patience is 2, but the run has {epochs}" in outcome.stderr) == (2, True)


def test_a_set_of_runs_on_few_images_resumes(data: Path, preset_file: Path, guidino, tmp_path: Path) -> None:
    out = tmp_path / "set"
    words = ("-d", data, "-o", out, "--device", "cpu", "--set", "train.min_steps=5")
    assert guidino("train", "-p", preset_file, "--seeds", 1, *words).code == 0
    again = guidino("train", "--resume", "-o", out, "--device", "cpu")
    assert again.code == 0, again.stderr
