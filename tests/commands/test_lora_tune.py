"""`guidino lora-tune`: from a frozen run or a preset to an adapted run that every command can use."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from shutil import copytree

import pytest
import torch
from safetensors.torch import load_file

Maker = Callable[..., Path]

pytestmark = pytest.mark.usefixtures("no_figures")

PRESET = """
description: a tiny guided network
model:
  segmenter: {name: unet, options: {width: 4}}
  backbone: {name: random, options: {hidden_size: 32, depth: 2, heads: 2, layers: [1]}}
  guide: {at: bottleneck, options: {prototypes: 4, aggregate: softmax}}
data: {image_size: 32}
train: {epochs: 1, batch_size: 2, lr: 1e-2, loss: {dice: 1, cross_entropy: 1, guide: 0.1}}
predict: {overlap: 0, mirror: false}
"""


@pytest.fixture(scope="module")
def shared(
    no_figures: None, guidino_once: Callable[..., None], make_data_in: Maker, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder that no test writes to: the preset, data, a frozen run, and the run that was tuned from it."""
    folder = tmp_path_factory.mktemp("lora")
    (folder / "tiny.yaml").write_text(PRESET)
    data, frozen = make_data_in(folder), folder / "frozen"
    guidino_once("train", "-p", folder / "tiny.yaml", "-d", data, "-o", frozen, "--device", "cpu")
    guidino_once("lora-tune", frozen, "-o", folder / "tuned", "--device", "cpu")
    return folder


@pytest.fixture
def preset(shared: Path) -> Path:
    return shared / "tiny.yaml"


@pytest.fixture
def data(shared: Path) -> Path:
    return shared / "data"


@pytest.fixture
def frozen(shared: Path, tmp_path: Path) -> Path:
    """A trained run with a frozen backbone, the test's own copy."""
    return copytree(shared / "frozen", tmp_path / "frozen")


@pytest.fixture
def tune(guidino, tmp_path: Path):
    """Call `guidino lora-tune` into the folder `tuned`."""

    def call(*words: object):
        return guidino("lora-tune", *words, "-o", tmp_path / "tuned", "--device", "cpu")

    return call


@pytest.fixture
def tuned(tmp_path: Path) -> Path:
    """Where `tune` writes."""
    return tmp_path / "tuned"


@pytest.fixture
def adapted(shared: Path, tuned: Path) -> Path:
    """A run that was tuned from the frozen one, the test's own copy."""
    return copytree(shared / "tuned", tuned)


def _hashes(folder: Path) -> dict[Path, str]:
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*")) if path.is_file()}


def _message(outcome) -> str:
    return outcome.stderr.strip().splitlines()[-1]


# --- From a frozen run


def test_lora_tune_starts_from_a_frozen_run_and_does_not_change_it(tune, frozen: Path, tuned: Path) -> None:
    before = _hashes(frozen)
    outcome = tune(frozen)
    assert outcome.code == 0, outcome.stderr
    assert _hashes(frozen) == before
    files = {str(path.relative_to(tuned)) for path in tuned.rglob("*") if path.is_file()}
    assert {
        "best/model.safetensors",
        "best/adapter/adapter_config.json",
        "best/adapter/adapter_model.safetensors",
    } <= files
    assert not [name for name in load_file(tuned / "best" / "model.safetensors") if name.startswith("backbone.")]
    facts = json.loads((tuned / "run.json").read_text())
    assert facts["origin"] == {"run": str(frozen), "sha256": before[frozen / "best" / "model.safetensors"]}


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_first_forward_equals_that_of_the_frozen_run_in_the_same_memory_order_bit_for_bit(
    tune, frozen: Path, monkeypatch: pytest.MonkeyPatch, channels_last: bool
) -> None:
    """Adapters start at zero. The order of channels in memory, which is chosen by processor, changes the rounding."""
    from guidino_cli.engine.runs.loading import load_run
    from guidino_cli.engine.training.speedups import to_channels_last
    from guidino_cli.engine.training.trainer import Trainer

    image, seen = torch.rand(2, 3, 32, 32), []

    def first(self: Trainer, **_: object) -> None:
        with torch.inference_mode():
            seen.append(self.model.eval()(image))

    monkeypatch.setattr(Trainer, "fit", first)
    tune(frozen, "--set", f"train.channels_last={str(channels_last).lower()}")
    expected_model = load_run(frozen)[0]
    if channels_last:
        to_channels_last(expected_model.segmenter)
    with torch.inference_mode():
        expected = expected_model(image)
    assert torch.equal(seen[0].logits[0], expected.logits[0])
    assert torch.equal(seen[0].guide, expected.guide)


def test_parameters_are_listed_by_part(tune, frozen: Path) -> None:
    """One block of width 32, rank 8: 4 x 8 x (32 + 32) for attention, 2 x 8 x (32 + 128) for the MLP."""
    outcome = tune(frozen, "--dry-run")
    assert "adapter    4,608 trainable of 4,608" in outcome.stderr
    assert "backbone   0 trainable of " in outcome.stderr
    assert "adapter's lr 0.0005" in outcome.stderr


def test_frozen_heads_keep_every_bit_and_the_adapter_is_trained(tune, frozen: Path, tuned: Path) -> None:
    assert tune(frozen, "--freeze-heads").code == 0
    before, after = (load_file(run / "best" / "model.safetensors") for run in (frozen, tuned))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    adapter = load_file(tuned / "best" / "adapter" / "adapter_model.safetensors")
    assert any(value.any() for name, value in adapter.items() if "lora_B" in name)


def test_heads_and_adapter_have_a_learning_rate_each_and_both_follow_the_schedule(
    tune, frozen: Path, tuned: Path
) -> None:
    assert tune(frozen, "--set", "train.epochs=2").code == 0
    rows = [json.loads(line) for line in (tuned / "history.jsonl").read_text().splitlines()]
    assert [row["lr"] for row in rows] == pytest.approx([1e-2, 1e-2 * 0.5**0.9])
    assert [row["lora_lr"] for row in rows] == pytest.approx([5e-4, 5e-4 * 0.5**0.9])


@pytest.mark.parametrize("option", ["dora", "rslora"])
def test_the_kinds_of_lora_train_and_load(option: str, tune, frozen: Path, tuned: Path) -> None:
    from guidino_cli.engine.runs.loading import load_run

    assert tune(frozen, "--set", f"model.lora.{option}=true", "--set", "train.checkpointing=true").code == 0
    assert load_run(tuned)[0].backbone.is_adapted


# --- From a preset


def test_a_preset_is_trained_from_scratch_with_lora(tune, preset: Path, data: Path, tuned: Path) -> None:
    from guidino_cli.engine.runs.folder import RunFolder

    assert tune("--preset", preset, "--data", data, "--set", "model.lora.rank=2").code == 0
    assert RunFolder(tuned).config().model.lora.rank == 2
    assert "origin" not in RunFolder(tuned).facts()


def test_train_with_lora_in_its_settings_is_the_same_run(
    guidino, tune, preset: Path, data: Path, tuned: Path, tmp_path: Path
) -> None:
    assert tune("--preset", preset, "--data", data).code == 0
    words = ("--set", "model.lora={}", "-o", tmp_path / "trained", "--device", "cpu")
    assert guidino("train", "-p", preset, "-d", data, *words).code == 0
    for name in (
        "best/model.safetensors",
        "best/adapter/adapter_model.safetensors",
        "best/adapter/adapter_config.json",
    ):
        assert (tuned / name).read_bytes() == (tmp_path / "trained" / name).read_bytes()


# --- Going on


def test_a_killed_run_resumes_bit_for_bit(
    guidino, tune, frozen: Path, tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from guidino_cli.engine.training.trainer import Trainer

    words = (frozen, "--set", "train.epochs=2")
    assert guidino("lora-tune", *words, "-o", tmp_path / "whole", "--device", "cpu").code == 0
    original = Trainer._train_epoch

    def interrupted(self: Trainer, bar: object) -> dict[str, float]:
        if self.state.epoch == 1:
            raise KeyboardInterrupt
        return original(self, bar)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_epoch", interrupted)
        tune(*words)
    assert tune("--resume").code == 0
    for name in ("best/model.safetensors", "best/adapter/adapter_model.safetensors"):
        assert (tuned / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    states = [torch.load(run / "last" / "state.pt", weights_only=True)["model"] for run in (tuned, tmp_path / "whole")]
    assert any("lora_B" in name for name in states[0])
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert "origin" in json.loads((tuned / "run.json").read_text())


# --- What comes out is used like any run


def test_predict_loads_the_adapter_automatically(guidino, adapted: Path, data: Path) -> None:
    outcome = guidino("predict", adapted, data, "-o", adapted.parent / "masks", "--device", "cpu", "--save-guide")
    assert outcome.code == 0, outcome.stderr
    assert (adapted.parent / "masks" / "case6.png").is_file()


def test_a_loaded_run_has_the_trained_adapter_and_is_frozen(adapted: Path) -> None:
    from guidino_cli.engine.runs.loading import load_run
    from guidino_cli.models.lora import adapter_state_dict

    model = load_run(adapted)[0]
    stored = load_file(adapted / "best" / "adapter" / "adapter_model.safetensors")
    loaded = adapter_state_dict(model.backbone)
    assert all(torch.equal(loaded[name], stored[name]) for name in stored)
    assert model.backbone.is_frozen
    assert not any(parameter.requires_grad for parameter in model.backbone.parameters())


def test_a_missing_adapter_is_refused_by_name(adapted: Path) -> None:
    from guidino_cli.engine.runs.loading import load_run
    from guidino_cli.errors import WeightsError

    (adapted / "best" / "adapter" / "adapter_model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"adapter_model\.safetensors: is missing, but the run was trained"):
        load_run(adapted)


def test_an_adapter_of_another_epoch_is_refused(adapted: Path) -> None:
    """One flipped bit is enough: its values would fit, and the masks be wrong."""
    from guidino_cli.engine.runs.loading import load_run
    from guidino_cli.errors import WeightsError

    path = adapted / "best" / "adapter" / "adapter_model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"adapter_model\.safetensors: is damaged, or of another epoch"):
        load_run(adapted)


def test_another_base_is_refused(guidino, adapted: Path, data: Path) -> None:
    config = adapted / "config.yaml"
    config.write_text(config.read_text().replace("depth: 2", "depth: 3"))
    outcome = guidino("predict", adapted, data, "-o", adapted.parent / "masks", "--device", "cpu")
    assert (outcome.code, "SHA-256" in _message(outcome)) == (4, True)


def test_the_merged_backbone_is_one_that_other_runs_can_use(tune, frozen: Path, tuned: Path) -> None:
    from guidino_cli.engine.runs.loading import load_run
    from guidino_cli.models import build_backbone

    outcome = tune(frozen, "--merge", "--set", "train.lora_lr=0.1")
    assert outcome.code == 0, outcome.stderr
    assert "model.backbone={name: dinov3" in outcome.stdout
    assert "layers: [1]" in outcome.stdout
    adapted = load_run(tuned)[0].backbone
    options = {"weights": str(tuned / "merged"), "layers": [1]}
    again = build_backbone("dinov3", options, offline=True)
    image = torch.rand(1, 3, 32, 48)
    plain = load_run(frozen)[0].backbone(image)[0]
    assert (again(image)[0] - adapted(image)[0]).abs().max() <= 1e-5
    assert (plain - adapted(image)[0]).abs().max() > 1e-3
    assert "Derived from random, seed 0" in (tuned / "merged" / "NOTICE.md").read_text()


# --- Refusals


def test_nothing_to_tune_is_refused(guidino) -> None:
    outcome = guidino("lora-tune")
    assert (outcome.code, "give RUN" in _message(outcome)) == (2, True)


def test_a_run_together_with_a_preset_is_refused(tune, frozen: Path, preset: Path) -> None:
    outcome = tune(frozen, "--preset", preset)
    assert (outcome.code, "both RUN and --preset" in _message(outcome)) == (2, True)


def test_the_source_run_is_never_overwritten(guidino, frozen: Path) -> None:
    before = _hashes(frozen)
    outcome = guidino("lora-tune", frozen, "-o", frozen, "--overwrite")
    assert (outcome.code, "is RUN itself" in _message(outcome)) == (2, True)
    assert _hashes(frozen) == before


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.lora.targets=[fc1]", "unknown projection 'fc1'"),
        ("model.lora.layers=[2]", "blocks 1..1"),
        ("model.guide.at=input", "model.guide.at is what the run was trained with"),
        ("train.optimizer=sgd", "model.lora needs train.optimizer=adamw"),
        ("model.lora=null", "switched off"),
    ],
)
def test_invalid_settings_are_refused_before_anything_is_written(
    setting: str, message: str, tune, frozen: Path, tuned: Path
) -> None:
    outcome = tune(frozen, "--set", setting)
    assert outcome.code == 2
    assert message in _message(outcome)
    assert not tuned.exists()


def test_a_run_that_is_adapted_already_is_refused(guidino, adapted: Path) -> None:
    outcome = guidino("lora-tune", adapted, "-o", adapted.parent / "again", "--device", "cpu")
    assert (outcome.code, "adapted by LoRA already" in _message(outcome)) == (2, True)


def test_a_run_without_a_backbone_is_refused(guidino, tune, preset: Path, data: Path, tmp_path: Path) -> None:
    plain = ("--set", "model.backbone=null", "--set", "model.guide=null", "--set", "train.loss={dice: 1}")
    assert guidino("train", "-p", preset, "-d", data, "-o", tmp_path / "plain", "--device", "cpu", *plain).code == 0
    outcome = tune(tmp_path / "plain")
    assert (outcome.code, "has no backbone to adapt" in _message(outcome)) == (2, True)


def test_data_of_other_classes_is_refused(tune, frozen: Path, make_data: Maker) -> None:
    outcome = tune(frozen, "--data", make_data("three", num_classes=3))
    assert (outcome.code, "was trained for background, a" in _message(outcome)) == (3, True)


@pytest.mark.parametrize("command", ["train", "lora-tune"])
def test_heads_that_were_never_trained_cannot_be_frozen(
    command: str, guidino, preset: Path, data: Path, tmp_path: Path
) -> None:
    words = ("--set", "model.lora={}", "--set", "train.freeze_heads=true")
    outcome = guidino(command, "-p", preset, "-d", data, "-o", tmp_path / "x", "--device", "cpu", *words)
    assert (outcome.code, "they must be trained" in _message(outcome)) == (2, True)
