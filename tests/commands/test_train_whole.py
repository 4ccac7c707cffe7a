"""`guidino train` with a finetuned backbone: afterwards nothing but the run is needed."""

import json
from collections.abc import Callable
from pathlib import Path
from shutil import copytree, rmtree

import pytest
import torch
from safetensors.torch import load_file

Maker = Callable[..., Path]

pytestmark = pytest.mark.usefixtures("no_figures")

PRESET = """
model:
  segmenter: {name: meddinov3}
  backbone: {name: dinov3, options: {weights: WEIGHTS, layers: [1, 2]}}
  finetune: {drop_path: 0.2}
data: {image_size: 32}
train: {epochs: 2, batch_size: 2, lr: 1e-2, backbone_lr: 1e-3, poly_power: 1.0, betas: [0.9, 0.98], weight_decay: 5e-2}
predict: {overlap: 0, mirror: false}
"""


@pytest.fixture(scope="module")
def shared(
    no_figures: None,
    guidino_once: Callable[..., None],
    make_data_in: Maker,
    dinov3_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A folder that no test writes to: data, and a run whose original weights are gone."""
    folder = tmp_path_factory.mktemp("whole")
    weights = copytree(dinov3_folder, folder / "weights")
    (folder / "tiny.yaml").write_text(PRESET.replace("WEIGHTS", str(weights)))
    data = make_data_in(folder)
    guidino_once("train", "-p", folder / "tiny.yaml", "-d", data, "-o", folder / "run", "--device", "cpu")
    rmtree(weights)
    return folder


@pytest.fixture
def run(shared: Path, tmp_path: Path) -> Path:
    """The trained run, the test's own copy."""
    return copytree(shared / "run", tmp_path / "run")


def _message(outcome) -> str:
    return outcome.stderr.strip().splitlines()[-1]


# --- What is trained and kept


def test_every_weight_of_the_backbone_but_the_mask_token_is_trained(run: Path, dinov3_folder: Path) -> None:
    kept = load_file(run / "best" / "model.safetensors")
    before = load_file(dinov3_folder / "model.safetensors")
    names = {name.removeprefix("backbone.vit."): name for name in kept if name.startswith("backbone.vit.")}
    same = {short for short, name in names.items() if torch.equal(kept[name], before[_on_disk(short)])}
    assert same == {"embeddings.mask_token"}
    # Blocks behind the deepest that is read do not exist.
    assert not any("layer.2." in name for name in names)


def _on_disk(name: str) -> str:
    """transformers' folders have no `model.` before the blocks."""
    return name.removeprefix("model.")


def test_the_history_has_linear_learning_rates_of_backbone_and_heads(run: Path) -> None:
    rows = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert [row["lr"] for row in rows] == pytest.approx([1e-2, 0.5e-2])
    assert [row["backbone_lr"] for row in rows] == pytest.approx([1e-3, 0.5e-3])


def test_the_run_says_where_its_weights_come_from(run: Path) -> None:
    facts = json.loads((run / "run.json").read_text())
    assert facts["backbone"]["weights"].endswith("weights")
    trained, all_of_them = facts["parameters"]
    assert all_of_them - trained == 32
    notice = (run / "best" / "NOTICE.md").read_text()
    assert facts["backbone"]["sha256"] in notice
    assert "DINOv3 licence" in notice


# --- What comes out is used like any run, without the weights it began with


def test_a_finetuned_run_predicts(guidino, run: Path, shared: Path) -> None:
    outcome = guidino("predict", run, shared / "data", "-o", run.parent / "masks", "--device", "cpu", "--offline")
    assert outcome.code == 0, outcome.stderr
    assert (run.parent / "masks" / "case6.png").is_file()


def test_a_loaded_run_has_the_trained_backbone_and_is_frozen(run: Path) -> None:
    from guidino_cli.engine.runs.loading import load_run

    model = load_run(run, offline=True)[0]
    kept = load_file(run / "best" / "model.safetensors")
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())
    assert model.backbone.is_frozen
    assert not any(parameter.requires_grad for parameter in model.backbone.parameters())
    assert not any(module.training for module in model.train().backbone.modules())


def test_two_finetuned_runs_form_an_ensemble(guidino, run: Path, shared: Path) -> None:
    outcome = guidino(
        "predict", run, "--ensemble", shared / "run", shared / "data", "-o", run.parent / "masks", "--device", "cpu"
    )
    assert outcome.code == 0, outcome.stderr


def test_a_killed_run_resumes_bit_for_bit_without_the_original_weights(
    guidino, shared: Path, dinov3_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from guidino_cli.engine.training.trainer import Trainer

    original = Trainer._train_epoch

    def interrupted(self: Trainer) -> dict[str, float]:
        if self.state.epoch == 1:
            raise KeyboardInterrupt
        return original(self)

    copytree(dinov3_folder, shared / "weights")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_epoch", interrupted)
        guidino("train", "-p", shared / "tiny.yaml", "-d", shared / "data", "-o", tmp_path / "cut", "--device", "cpu")
    rmtree(shared / "weights")
    outcome = guidino("train", "--resume", "-o", tmp_path / "cut", "--device", "cpu")
    assert outcome.code == 0, outcome.stderr
    states = [
        torch.load(run / "last" / "state.pt", weights_only=True)["model"] for run in (tmp_path / "cut", shared / "run")
    ]
    assert any(name.startswith("backbone.") for name in states[0])
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert (tmp_path / "cut" / "best" / "model.safetensors").read_bytes() == (
        shared / "run" / "best" / "model.safetensors"
    ).read_bytes()


def test_finetuning_works_with_half_precision_and_checkpointing(
    guidino, shared: Path, dinov3_folder: Path, tmp_path: Path
) -> None:
    words = ("-p", shared / "tiny.yaml", "-d", shared / "data", "-o", tmp_path / "run", "--device", "cpu")
    settings = (f"model.backbone.options.weights={dinov3_folder}", "train.precision=bf16", "train.checkpointing=true")
    outcome = guidino("train", *words, *(word for setting in settings for word in ("--set", setting)))
    assert outcome.code == 0, outcome.stderr
    losses = [json.loads(line)["loss"] for line in (tmp_path / "run" / "history.jsonl").read_text().splitlines()]
    assert losses[1] < losses[0]
    kept = load_file(tmp_path / "run" / "best" / "model.safetensors")
    assert {value.dtype for value in kept.values()} == {torch.float32}


# --- Refusals


def test_lora_of_a_finetuned_backbone_is_refused(guidino, run: Path) -> None:
    outcome = guidino("lora-tune", run, "-o", run.parent / "tuned", "--device", "cpu")
    assert (outcome.code, "its backbone was trained whole" in _message(outcome)) == (2, True)
    assert not (run.parent / "tuned").exists()


def test_a_damaged_blueprint_is_refused_by_name(guidino, run: Path, shared: Path) -> None:
    facts = json.loads((run / "run.json").read_text())
    del facts["blueprint"]["layers"]
    (run / "run.json").write_text(json.dumps(facts))
    outcome = guidino("predict", run, shared / "data", "-o", run.parent / "masks", "--device", "cpu")
    assert (outcome.code, "run.json: damaged (blueprint.layers: field required)" in _message(outcome)) == (3, True)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.lora={}", "choose one"),
        ("model.backbone=null", "model.finetune needs a model.backbone"),
        ("model.finetune.drop_path=1", "model.finetune.drop_path"),
        ("model.finetune=null", "train.backbone_lr needs a finetuned backbone"),
        ("train.freeze_heads=true", "train.freeze_heads needs an adapted backbone"),
        ("train.betas=[0.9]", "train.betas"),
    ],
)
def test_invalid_settings_are_refused(setting: str, message: str, guidino, shared: Path, tmp_path: Path) -> None:
    words = ("-p", shared / "tiny.yaml", "-d", shared / "data", "-o", tmp_path / "new")
    outcome = guidino("train", *words, "--set", setting)
    assert outcome.code == 2
    assert message in _message(outcome)
    assert not (tmp_path / "new").exists()


# --- A start from such a run


def test_a_new_run_starts_with_the_trained_backbone(run: Path, guidino, tmp_path: Path) -> None:
    from guidino_cli.engine.training.trainer import Trainer

    started: dict[str, torch.Tensor] = {}

    def record(self: Trainer, **_: object) -> None:
        started.update({name: value.clone() for name, value in self.bare_model.state_dict().items()})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "fit", record)
        patch.setattr("guidino_cli.commands.train._finish", lambda *_, **__: None)
        outcome = guidino("train", "--from", run, "-o", tmp_path / "new", "--device", "cpu")
    assert outcome.code == 0, outcome.stderr
    kept = load_file(run / "best" / "model.safetensors")
    assert all(torch.equal(started[name], value) for name, value in kept.items())
    facts = [json.loads((folder / "run.json").read_text()) for folder in (run, tmp_path / "new")]
    assert facts[0]["backbone"] == facts[1]["backbone"]


def test_a_new_run_that_would_lose_the_trained_backbone_is_refused(run: Path, guidino, tmp_path: Path) -> None:
    words = ("--set", "model.finetune=null", "--set", "train.backbone_lr=null")
    outcome = guidino("train", "--from", run, "-o", tmp_path / "new", "--device", "cpu", *words)
    assert outcome.code == 2
    assert "its backbone was trained whole, and the new run would lose it" in _message(outcome)
