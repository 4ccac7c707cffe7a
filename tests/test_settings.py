"""Settings in YAML and in overrides: parsed, applied, and refused by name."""

from pathlib import Path

import pytest

from guidino_cli.config import RunConfig, load_preset, override
from guidino_cli.errors import ConfigError


@pytest.mark.parametrize("text", ["1e-4", "1E-4", "1.e-4", ".1e-3", "0.0001", "+1e-4"])
def test_a_number_in_any_notation_is_a_number(text: str) -> None:
    assert override(RunConfig(), [f"train.lr={text}"]).train.lr == pytest.approx(1e-4)


def test_no_is_text_and_only_true_and_false_are_booleans() -> None:
    config = override(RunConfig(), ["train.precision=no", "train.compile=true"])
    assert (config.train.precision, config.train.compile) == ("no", True)


def test_an_option_in_scientific_notation_is_a_number() -> None:
    config = override(RunConfig(), ["model.segmenter.options.rate=1e-4"])
    assert config.model.segmenter.options["rate"] == pytest.approx(1e-4)


def test_an_override_does_not_change_other_settings() -> None:
    config = load_preset("kvasir-nnwnet", ["train.loss.guide=0.5"])
    assert config.train.loss == {"dice": 1, "cross_entropy": 1, "guide": 0.5}


def test_an_override_can_remove_a_component() -> None:
    assert load_preset("kvasir-nnwnet", ["model.guide=null", "train.loss.guide=0"]).model.guide is None


def test_a_setting_with_an_equals_sign_keeps_it() -> None:
    assert override(RunConfig(), ["description=a=b"]).description == "a=b"


@pytest.mark.parametrize(
    ("item", "line"),
    [
        ("train.epoch=3", "train.epoch: unknown setting 'epoch'; did you mean 'epochs'"),
        ("epochs=3", "epochs: unknown setting 'epochs'; did you mean 'train.epochs'"),
        ("epoch=3", "epoch: unknown setting 'epoch'; did you mean 'train.epochs'"),
        ("train.image_size=64", "unknown setting 'image_size'; did you mean 'data.image_size'"),
        ("train.trackers=[tensorbord]", "train.trackers.0: input should be 'tensorboard', 'wandb' or 'mlflow'"),
        ("trian.epochs=3", "trian: unknown setting 'trian'; did you mean 'train'"),
        ("Seed=3", "Seed: unknown setting 'Seed'; did you mean 'seed'"),
        ("train.LR=3", "train.LR: unknown setting 'LR'; did you mean 'lr'"),
        ("model.guide.att=input", "model.guide.att: unknown setting 'att'; did you mean 'at'"),
        ("model.guide.at=inputs", "model.guide.at: .*'bottleneck'.*found 'inputs'"),
        ("train.epochs=0", "train.epochs: .*found 0"),
        ("train.epochs=many", "train.epochs: .*found 'many'"),
        ("train.workers=-1", "train.workers: .*found -1"),
        ("train.loss.dice=-1", "train.loss.dice: .*found -1"),
        ("seed=-1", "seed: .*found -1"),
        ("predict.overlap=1", "predict.overlap is 1"),
        ("model.segmenter={options: {}}", "model.segmenter.name: must be given"),
        ("train=3", "train: .*found 3"),
    ],
)
def test_an_unusable_setting_is_named_with_what_was_found(item: str, line: str) -> None:
    with pytest.raises(ConfigError, match=line) as caught:
        load_preset("kvasir-nnwnet", [item])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("item", ["train.epochs", "=3", "train.lr=[1"])
def test_an_override_without_key_or_value_is_refused_with_an_example(item: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        load_preset("demo", [item])


def test_a_colon_without_a_space_is_answered_with_the_right_form() -> None:
    with pytest.raises(ConfigError, match=r"as in 'train\.loss=\{dice: 1, guide: 2\}'"):
        load_preset("demo", ["train.loss={dice: 1, guide:2}"])


@pytest.mark.parametrize("text", ["a: [1", "- a\n- b\n", "just words"])
def test_a_file_without_settings_is_refused_by_name(text: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"mine\.yaml"):
        load_preset(str(tmp_path / "mine.yaml"))


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"mine\.yaml: cannot be read \(No such file"):
        load_preset(str(tmp_path / "mine.yaml"))


def test_another_component_does_not_inherit_options() -> None:
    config = load_preset("kvasir-segdino", ["model.backbone.options.layers=[2,4]", "model.backbone.name=embedded"])
    assert config.model.backbone is not None
    assert config.model.backbone.options == {"layers": [2, 4]}


def test_the_same_name_again_keeps_the_options() -> None:
    config = load_preset("kvasir-segdino", ["model.backbone.name=dinov3"])
    assert config == load_preset("kvasir-segdino")


def test_a_size_replaces_the_weights_of_a_preset_and_weights_a_size() -> None:
    sized = load_preset("kvasir-segdino", ["model.backbone.options.size=base"])
    assert sized.model.backbone is not None
    assert sized.model.backbone.options == {"layers": [3, 6, 9, 12], "size": "base"}
    filed = override(sized, ["model.backbone.options.weights=/w", "model.backbone.options.size=null"])
    assert filed.model.backbone is not None
    assert filed.model.backbone.options == {"layers": [3, 6, 9, 12], "weights": "/w", "size": None}
