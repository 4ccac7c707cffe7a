"""`guidino train` beyond one run: more epochs for a finished run, early stopping, and a start from another run."""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from guidino_cli.commands.runs import figures
from guidino_cli.config import dump_config, load_preset
from guidino_cli.engine.runs.folder import RunFolder

Maker = Callable[..., Path]

pytestmark = pytest.mark.usefixtures("no_figures")


@pytest.fixture
def data(make_data: Maker) -> Path:
    return make_data()


@pytest.fixture
def train(guidino, preset: Path, data: Path, tmp_path: Path):
    """Call `guidino train` with the tiny preset and a constant learning rate; the folder is `tmp_path / name`."""

    def call(name: str, *words: object):
        plain = ("--set", "train.schedule=constant", "--device", "cpu")
        return guidino("train", "-p", preset, "-d", data, "-o", tmp_path / name, *plain, *words)

    return call


@pytest.fixture
def resume(guidino):
    return lambda run, *words: guidino("train", "--resume", "-o", run, "--device", "cpu", *words)


def _one_line(stderr: str) -> str:
    return stderr.strip().splitlines()[-1]


def _rows(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]


def _json(path: Path) -> dict:
    return json.loads(path.read_text())


# --- More epochs


def test_epochs_added_later_are_those_of_a_run_that_had_them_from_the_start(train, resume, tmp_path: Path) -> None:
    """With a constant learning rate, bit for bit."""
    assert train("long", "--set", "train.epochs=3").code == 0
    assert train("short").code == 0
    outcome = resume(tmp_path / "short", "--set", "train.epochs=3")
    assert outcome.code == 0, outcome.stderr
    runs = tmp_path / "long", tmp_path / "short"
    losses = [[(row["epoch"], row["loss"], row["val_dice"]) for row in _rows(run)] for run in runs]
    assert losses[0] == losses[1]
    assert len({(run / "best" / "model.safetensors").read_bytes() for run in runs}) == 1
    assert _json(tmp_path / "short" / "result.json")["epochs"] == 3


def test_the_schedule_ends_at_the_new_last_epoch(train, resume, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train("run", "--set", "train.schedule=poly", "--set", "train.epochs=2").code == 0
    outcome = resume(run, "--set", "train.epochs=4")
    assert outcome.code == 0, outcome.stderr
    # lr (1 - t)^0.9 at the starts of the epochs: t is 0 and 1/2 of two epochs, then 2/4 and 3/4 of four.
    expected = [1e-2 * (1 - t) ** 0.9 for t in (0, 1 / 2, 2 / 4, 3 / 4)]
    assert [row["lr"] for row in _rows(run)] == pytest.approx(expected)
    assert "the schedule now ends after 4 epochs, so lr continues at 0.00536; it was 0" in outcome.stderr
    assert _json(run / "run.json")["extended"] == [{"finished": 2, "epochs": 2, "patience": 0}]
    assert "is finished: 4 of 4 epochs" in resume(run).stdout


def test_a_kill_while_the_settings_are_replaced_leaves_a_run_that_resumes(
    train, resume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    assert train("run").code == 0
    with monkeypatch.context() as patch:

        def killed(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr("guidino_cli.engine.runs.folder.RunFolder.replace_config", killed)
        assert resume(run, "--set", "train.epochs=2").code == 130
    assert resume(run).code == 0
    assert _json(run / "result.json")["epochs"] == 1
    assert resume(run, "--set", "train.epochs=2").code == 0
    assert _json(run / "result.json")["epochs"] == 2


@pytest.mark.parametrize("words", [("train.epochs=1",), ("train.patience=1",)])
def test_a_run_without_epochs_left_is_not_resumed(train, resume, tmp_path: Path, words: tuple[str]) -> None:
    run = tmp_path / "run"
    assert train("run", "--set", "train.epochs=2").code == 0
    before = (run / "config.yaml").read_bytes(), (run / "result.json").read_bytes()
    outcome = resume(run, "--set", *words)
    assert outcome.code == 2
    assert "but the run has finished 2 epochs; give a higher number, such as --set train.epochs=4" in _one_line(
        outcome.stderr
    )
    assert ((run / "config.yaml").read_bytes(), (run / "result.json").read_bytes()) == before


# --- Early stopping


@pytest.fixture
def scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Validation Dice of the epochs, whatever the model predicts."""
    given = iter([0.5, 0.6, 0.6, 0.55, 0.7, 0.1, 0.2, 0.3])
    monkeypatch.setattr("guidino_cli.engine.training.validation.Validation.mean_dice", lambda *_, **__: next(given))


@pytest.mark.usefixtures("scores")
def test_training_stops_when_the_best_epoch_is_patience_epochs_old(train, resume, tmp_path: Path) -> None:
    run = tmp_path / "run"
    outcome = train("run", "--set", "train.epochs=7", "--set", "train.patience=2")
    assert outcome.code == 0, outcome.stderr
    # The equal score of epoch 3 is no improvement.
    first, second = outcome.stdout.splitlines()[:2]
    assert first == "stopped early after epoch 4: no better val Dice for 2 epochs (train.patience)"
    assert second == "best val Dice 0.6000 in epoch 2"
    assert _json(run / "result.json")["stopped_early"] is True
    finished = resume(run)
    assert finished.stdout.startswith(f"{run} is finished: 4 of 7 epochs, stopped early\n")
    assert f"guidino train --resume -o {run} --set train.patience=0" in finished.stdout
    further = resume(run, "--set", "train.patience=0")
    assert further.stdout.startswith("best val Dice 0.7000 in epoch 5")
    assert [row["epoch"] for row in _rows(run)] == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.usefixtures("scores")
def test_epochs_that_the_patience_does_not_allow_are_refused(train, resume, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train("run", "--set", "train.epochs=7", "--set", "train.patience=2").code == 0
    before = (run / "config.yaml").read_bytes(), (run / "result.json").read_bytes()
    outcome = resume(run, "--set", "train.epochs=9")
    assert outcome.code == 2
    message = "would stop at once: the best val Dice is 2 epochs old and train.patience is 2; give more"
    assert message in _one_line(outcome.stderr)
    assert ((run / "config.yaml").read_bytes(), (run / "result.json").read_bytes()) == before
    further = resume(run, "--set", "train.epochs=9", "--set", "train.patience=3")
    # Epoch 5 is the best.
    assert further.stdout.startswith("stopped early after epoch 8: no better val Dice for 3 epochs")


@pytest.mark.usefixtures("scores")
def test_training_stops_after_a_validation_only(train, tmp_path: Path) -> None:
    words = ("train.epochs=7", "train.patience=3", "train.validate_every=2")
    outcome = train("run", *(word for item in words for word in ("--set", item)))
    assert outcome.code == 0, outcome.stderr
    # Validated after epochs 2, 4 and 6 with 0.5, 0.6, 0.6; after 7, the best one is 3 epochs old, but it is the last.
    assert _json(tmp_path / "run" / "result.json")["epochs"] == 7


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train.epochs=3", "train.patience=3"), "train.patience is 3, but the run has 3 epochs"),
        (
            ("train.epochs=9", "train.patience=2", "train.validate_every=4"),
            "train.patience is 2, but validation takes place every 4 epochs",
        ),
        (("train.patience=-1",), "train.patience: "),
        (("train.class_weights=[1, 2, 3]",), "has 3 weights, but the data has 2 classes (background, a)"),
        (("train.class_weights=[0, 1]",), "train.class_weights.0: "),
        (("train.class_weights=[1, 2]", "train.loss={dice: 1}"), "which train.loss does not have"),
    ],
)
@pytest.mark.parametrize("mode", [(), ("--dry-run",)])
def test_settings_that_cannot_be_used_are_refused(
    train, tmp_path: Path, words: tuple[str, ...], message: str, mode: tuple[str, ...]
) -> None:
    outcome = train("run", *mode, *(word for item in words for word in ("--set", item)))
    assert outcome.code == 2
    assert message in _one_line(outcome.stderr)
    assert not (tmp_path / "run").exists()


# --- Pixels that do not count


@pytest.fixture
def partly_known(data: Path) -> Path:
    """Prepared data without knowledge of the right half of the images."""
    for path in (data / "masks").iterdir():
        labels = np.asarray(Image.open(path)).copy()
        labels[:, labels.shape[1] // 2 :] = 255
        Image.fromarray(labels).save(path)
    manifest = _json(data / "cases.json")
    (data / "cases.json").write_text(json.dumps(manifest | {"ignore_label": 255}))
    return data


def test_the_right_half_is_neither_learned_nor_scored(partly_known: Path, train, tmp_path: Path) -> None:
    """Whatever the images show there, the run is the same; a plain network without augmentation sees only them."""
    plain = ("model.guide=null", "model.backbone=null", "train.loss={dice: 1, cross_entropy: 1}", "data.augment=none")
    words = tuple(word for item in plain for word in ("--set", item))
    outcome = train("run", *words)
    assert outcome.code == 0, outcome.stderr
    for path in (partly_known / "masks").iterdir():
        labels = np.asarray(Image.open(path)).copy()
        labels[:, labels.shape[1] // 2 :] = 9
        Image.fromarray(labels).save(path)
    manifest = _json(partly_known / "cases.json")
    del manifest["ignore_label"]
    (partly_known / "cases.json").write_text(json.dumps(manifest))
    assert train("again", *words, "--set", "data.ignore_label=9").code == 0
    rows = [(row["loss"], row["val_dice"]) for run in ("run", "again") for row in _rows(tmp_path / run)]
    assert rows[0] == rows[1]


def test_the_ignore_label_of_the_settings_holds_after_training(
    partly_known: Path, train, guidino, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scores of the figure and of `tune-post` are those of data that record the label themselves."""
    scores: list[list[float]] = []

    def record(rows: list[figures.ValidationRow], **_: object) -> SimpleNamespace:
        scores.append([row.dice for row in rows])
        return SimpleNamespace(savefig=None)

    monkeypatch.setattr(figures, "validation_grid", record)
    monkeypatch.setattr(figures, "write_atomically", lambda *_: None)
    manifest = _json(partly_known / "cases.json")
    assert train("run").code == 0
    chosen = []
    for is_recorded in (True, False):
        if not is_recorded:
            del manifest["ignore_label"]
            (partly_known / "cases.json").write_text(json.dumps(manifest))
            config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
            config["data"]["ignore_label"] = 255
            (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(config))
        figures.draw_validation_grid(RunFolder(tmp_path / "run"), device=torch.device("cpu"), offline=True)
        outcome = guidino("tune-post", tmp_path / "run")
        assert outcome.code == 0, outcome.stderr
        chosen.append(outcome.stdout)
    assert scores[0] == scores[1]
    assert chosen[0] == chosen[1]


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("1", "data.ignore_label: the ignore label is 1, which is class a"),
        ("300", "prepared masks hold values up to 255"),
        ("9", "but the data was prepared with 255"),
    ],
)
def test_an_ignore_label_that_cannot_be_is_refused(
    partly_known: Path, train, tmp_path: Path, label: str, message: str
) -> None:
    outcome = train("run", "--set", f"data.ignore_label={label}")
    assert outcome.code == 2
    assert message in _one_line(outcome.stderr)
    assert not (tmp_path / "run").exists()


# --- A start from another run


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """Fills with the weights that training starts from; no step is made."""
    from guidino_cli.engine.training.trainer import Trainer

    found: dict[str, torch.Tensor] = {}

    def record(self: Trainer, **_: object) -> None:
        found.update({name: value.clone() for name, value in self.bare_model.state_dict().items()})

    monkeypatch.setattr(Trainer, "fit", record)
    monkeypatch.setattr("guidino_cli.commands.train._finish", lambda *_, **__: None)
    return found


@pytest.fixture
def base(train, tmp_path: Path) -> Path:
    """A finished run."""
    assert train("base").code == 0
    return tmp_path / "base"


def _weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "best" / "model.safetensors")


def _equal(found: dict[str, torch.Tensor], run: Path) -> set[str]:
    """Names of the run's tensors that are the same in the model."""
    return {name for name, value in _weights(run).items() if torch.equal(found[name], value)}


def test_a_run_starts_with_weights_settings_and_data_of_another(
    base: Path, guidino, tmp_path: Path, start: dict[str, torch.Tensor]
) -> None:
    before = {path: path.read_bytes() for path in base.rglob("*") if path.is_file()}
    new = tmp_path / "new"
    outcome = guidino("train", "--from", base, "-o", new, "--set", "train.lr=5e-4", "--device", "cpu")
    assert outcome.code == 0, outcome.stderr
    assert _equal(start, base) == set(_weights(base))
    assert f"tensors start from {base / 'best' / 'model.safetensors'}" in outcome.stderr
    assert "random values" not in outcome.stderr
    old, config = (yaml.safe_load((run / "config.yaml").read_text()) for run in (base, new))
    assert config == old | {"train": old["train"] | {"lr": 5e-4}}
    facts = _json(new / "run.json")
    assert facts["origin"] == {
        "run": str(base),
        "sha256": sha256((base / "best" / "model.safetensors").read_bytes()).hexdigest(),
        "initial": [],
    }
    assert {path: path.read_bytes() for path in base.rglob("*") if path.is_file()} == before


def test_tensors_of_other_shapes_start_from_random_values_and_are_named(
    base: Path, guidino, make_data: Maker, tmp_path: Path, start: dict[str, torch.Tensor]
) -> None:
    three = make_data("three", num_classes=3)
    outcome = guidino("train", "--from", base, "--data", three, "-o", tmp_path / "new", "--device", "cpu")
    assert outcome.code == 0, outcome.stderr
    # The last layers of the levels have an output per class.
    initial = _json(tmp_path / "new" / "run.json")["origin"]["initial"]
    assert initial == sorted(name for name, value in _weights(base).items() if start[name].shape != value.shape)
    assert initial
    assert all(start[name].shape[0] == 3 for name in initial)
    assert set(_weights(base)) - set(initial) <= _equal(start, base)
    assert f"{len(initial)} start from random values: {initial[0]} (2,) for (3,)" in outcome.stderr
    assert "was trained for background, a, but the data has background, a, b" in outcome.stderr


def test_a_plain_network_takes_the_segmenter_of_a_guided_one(
    base: Path, train, tmp_path: Path, start: dict[str, torch.Tensor]
) -> None:
    plain = ("model.guide=null", "model.backbone=null", "train.loss={dice: 1}")
    outcome = train("new", "--from", base, *(word for item in plain for word in ("--set", item)))
    assert outcome.code == 0, outcome.stderr
    names = {name for name in _weights(base) if name.startswith("segmenter.")}
    assert {name for name in names if torch.equal(start[name], _weights(base)[name])} == names
    assert "of the run are not used: guide." in outcome.stderr


def test_the_guide_of_another_backbone_is_not_taken(
    base: Path, train, tmp_path: Path, start: dict[str, torch.Tensor]
) -> None:
    other = "model.backbone.options={hidden_size: 32, depth: 2, heads: 2}"
    outcome = train("new", "--from", base, "--set", other)
    assert outcome.code == 0, outcome.stderr
    initial = _json(tmp_path / "new" / "run.json")["origin"]["initial"]
    assert initial == sorted(name for name in _weights(base) if name.startswith("guide."))


@pytest.fixture
def adapted(guidino, preset: Path, data: Path, tmp_path: Path) -> Path:
    """A finished run with LoRA."""
    words = ("-p", preset, "-d", data, "-o", tmp_path / "adapted", "--set", "model.lora={rank: 2}", "--device", "cpu")
    assert guidino("lora-tune", *words).code == 0
    return tmp_path / "adapted"


def test_an_adapter_is_taken_with_the_heads_or_the_start_is_refused(
    adapted: Path, guidino, preset: Path, data: Path, tmp_path: Path, start: dict[str, torch.Tensor]
) -> None:
    assert guidino("train", "--from", adapted, "-o", tmp_path / "new", "--device", "cpu").code == 0
    stored = load_file(adapted / "best" / "adapter" / "adapter_model.safetensors")
    taken = sorted(float(value.abs().sum()) for name, value in start.items() if "lora_" in name)
    assert taken == sorted(float(value.abs().sum()) for value in stored.values())
    # New adapters start with half of their matrices at 0.
    assert min(taken) > 0
    frozen = ("-p", preset, "-d", data, "-o", tmp_path / "frozen")
    outcome = guidino("train", "--from", adapted, *frozen, "--device", "cpu")
    assert outcome.code == 2
    assert "is adapted by LoRA, and the new run would lose that" in _one_line(outcome.stderr)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--set", "model.segmenter={name: nnwnet}"), 2, "its segmenter is unet, that of the new run nnwnet"),
        (("--out", "base"), 2, "is the RUN of --from, which is not changed"),
        (("--folds", "2"), 2, "one run for all folds was trained on cases that the folds validate on"),
    ],
)
def test_a_start_that_cannot_be_is_refused(
    base: Path, guidino, tmp_path: Path, words: tuple[str, ...], code: int, message: str
) -> None:
    words = tuple(str(base) if word == "base" else word for word in words)
    out = () if "--out" in words else ("-o", tmp_path / "new")
    outcome = guidino("train", "--from", base, *out, "--device", "cpu", *words)
    assert outcome.code == code
    assert message in _one_line(outcome.stderr)
    assert not (tmp_path / "new").exists()


def test_a_run_that_cannot_be_started_from_is_refused(base: Path, guidino, tmp_path: Path) -> None:
    def refused(source: Path, code: int, message: str) -> None:
        outcome = guidino("train", "--from", source, "-o", tmp_path / "new", "--device", "cpu")
        assert outcome.code == code
        assert message in _one_line(outcome.stderr)
        assert not (tmp_path / "new").exists()

    refused(tmp_path / "none", 3, "no such folder")
    missing = guidino("train", "--from", base)
    assert (missing.code, "add -o OUT" in missing.stderr) == (2, True)
    facts = _json(base / "run.json")
    (base / "run.json").write_text(json.dumps(facts | {"format": 99}))
    refused(base, 3, "written in format 99")
    (base / "run.json").write_text(json.dumps(facts))
    (base / "best" / "model.safetensors").write_bytes(b"damaged")
    refused(base, 4, "model.safetensors: cannot be read")
    (base / "best" / "model.safetensors").unlink()
    refused(base, 4, "no trained weights")


def test_a_setting_of_the_run_that_contradicts_a_typed_one_is_named_as_its_own(
    preset: Path, guidino, tmp_path: Path
) -> None:
    """A patience of 1 suits the run's 3 epochs, but not the 1 epoch of the run that starts from it."""
    source, new = tmp_path / "base", tmp_path / "new"
    source.mkdir()
    config = load_preset(str(preset), ["train.epochs=3", "train.patience=1"])
    (source / "config.yaml").write_text(dump_config(config), encoding="utf-8")
    words = ("train", "--from", source, "-o", new, "--device", "cpu", "--set", "train.epochs=1")
    refused = guidino(*words)
    assert refused.code == 2
    message = _one_line(refused.stderr)
    assert f"settings of {source} with --set train.epochs=1: train.patience is 1, but the run has 1 epoch" in message
    assert "--set train.patience=0 to train all of them" in message
    for accepted in (("--set", "train.patience=0"), ("--preset", preset)):
        outcome = guidino(*words, *accepted)
        assert (outcome.code, "no trained weights" in _one_line(outcome.stderr)) == (4, True)


def test_a_started_run_resumes_with_the_run_it_came_from_and_no_other(
    base: Path, train, resume, tmp_path: Path
) -> None:
    new = tmp_path / "new"
    assert train("new", "--from", base).code == 0
    assert resume(new, "--from", base).code == 0
    assert train("other", "--seed", "5").code == 0
    outcome = resume(new, "--from", tmp_path / "other")
    assert outcome.code == 2
    assert f"did not start from {tmp_path / 'other'}, but from {base}" in _one_line(outcome.stderr)


def test_every_run_of_a_set_starts_from_the_run(base: Path, guidino, tmp_path: Path) -> None:
    words = ("--from", base, "--seeds", "2", "-o", tmp_path / "set", "--set", "train.lr=1e-3", "--dry-run")
    outcome = guidino("train", *words)
    assert outcome.code == 0, outcome.stderr
    lines = outcome.stdout.splitlines()
    assert len(lines) == 2
    for number, line in enumerate(lines):
        assert line.startswith(f"guidino train --from {base} --set train.lr=1e-3 --set seed={number}")
