"""Settings in YAML and in overrides: parsed, applied, and refused by name."""

from dataclasses import field
from pathlib import Path

import pytest
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from guidino_cli.config import RunConfig, load_preset, override
from guidino_cli.errors import ConfigError
from guidino_cli.settings import apply_overrides, list_presets, list_settings, read_settings, validate_settings


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
        ("alpa=3", "alpa: unknown setting 'alpa'; did you mean 'model.lora.alpha'"),
        ("predict.a=3", r"predict.a: unknown setting 'a' \(known: batch_size"),
        ("data.a=3", r"data.a: unknown setting 'a' \(`guidino presets NAME --resolved` lists all\)"),
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


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-1e-4", -1e-4), ("1e4", 1e4), ("1e+4", 1e4), ("7", 7), ("-7", -7), ("true", True), ("TRUE", True),
        ("True", True), ("false", False), ("False", False), ("FALSE", False), ("yes", "yes"), ("off", "off"),
        ("e4", "e4"), ("1e", "1e"), ("", None), ("null", None), ("[1, 2e-1]", [1, 0.2]),
    ],
)  # fmt: skip
def test_values_are_read_as_yaml_1_2_reads_them(text: str, value: object) -> None:
    settings: dict[str, object] = {}
    apply_overrides(settings, [f"a={text}"])
    assert settings == {"a": value}
    assert type(settings["a"]) is type(value)


def test_items_of_a_list_are_counted_from_0() -> None:
    settings = {"stages": [{"size": 1}, {"size": 2}], "sizes": [5, 6]}
    apply_overrides(settings, ["stages.1.size=9", "stages.0.new=3", "sizes.0=7"])
    assert settings == {"stages": [{"size": 1, "new": 3}, {"size": 9}], "sizes": [7, 6]}


@pytest.mark.parametrize("item", ["stages.2.size", "stages.-1.size", "stages.first.size", "sizes.2", "sizes.x"])
def test_an_item_that_a_list_does_not_have_is_refused(item: str) -> None:
    settings = {"stages": [{"size": 1}, {"size": 2}], "sizes": [5, 6]}
    with pytest.raises(ConfigError, match=r"is none of the 2 items, which count from 0"):
        apply_overrides(settings, [f"{item}=3"])


def test_a_name_is_set_before_options_whatever_the_order() -> None:
    settings = {"model": {"name": "a", "options": {"old": 1}}}
    apply_overrides(settings, ["model.options.new=2", "model.name=b"])
    assert settings == {"model": {"name": "b", "options": {"new": 2}}}


@pytest.mark.parametrize("section", ["backbone", "student"])
def test_size_and_weights_replace_each_other_only_in_a_backbone(section: str) -> None:
    settings = {section: {"options": {"size": "base", "depth": 3}}, "other": {"options": {"size": 1}}}
    apply_overrides(settings, [f"{section}.options.weights=/w", "other.options.weights=2"])
    assert settings == {
        section: {"options": {"depth": 3, "weights": "/w"}},
        "other": {"options": {"size": 1, "weights": 2}},
    }
    apply_overrides(settings, [f"{section}.options.size=null"])
    assert settings[section] == {"options": {"depth": 3, "weights": "/w", "size": None}}


def test_a_value_in_the_way_of_a_section_becomes_one() -> None:
    settings = {"guide": None}
    apply_overrides(settings, ["guide.at=input"])
    assert settings == {"guide": {"at": "input"}}


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Stage:
    """One item of a list of sections."""

    side: int = 3


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Other:
    """Another kind of section."""

    depth: int = 2


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Settings:
    """A section, an optional one and a list of sections."""

    first: Stage = field(default_factory=Stage)
    second: Stage | None = None
    stages: list[Stage] = field(default_factory=list)
    momentum: float = 0.5
    either: Stage | Other | None = None


def test_settings_are_listed_with_their_paths() -> None:
    assert list_settings(Settings) == [
        "first", "first.side", "second", "second.side", "stages", "stages.0.side", "momentum", "either", "either.side",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"stages": [{"side": 3}, {"sid": 3}]}, r"stages\.1\.sid: unknown setting 'sid'; did you mean 'side'"),
        (
            {"side": 3},
            r"side: unknown setting 'side'; did you mean 'first.side' or 'second.side' or .* or 'either.side'\?",
        ),
        ({"momentun": 1}, "momentun: unknown setting 'momentun'; did you mean 'momentum'"),
        ({"first": {"momentum": 1}}, r"first\.momentum: unknown setting 'momentum'; did you mean 'momentum'\?"),
        ({"first": {"zzz": 1}}, r"first\.zzz: unknown setting 'zzz'"),
        ({"first": 7}, r"first: expected settings such as \{\} for its defaults, found 7"),
        ({"either": {"zzz": 1}}, r"either\.zzz: unknown setting 'zzz'"),
        ({"momentum": "x"}, r"momentum: input should be a valid number.*, found 'x'"),
    ],
)
def test_an_unusable_setting_of_any_section_is_named(settings: dict[str, object], line: str) -> None:
    with pytest.raises(ConfigError, match=f"^mine: {line}"):
        validate_settings(Settings, settings, label="mine")


def test_an_empty_file_leaves_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text("")
    (tmp_path / "a.yaml").write_text("[1]")
    assert read_settings(tmp_path / "b.yaml", ["seed=3"], example="seed: 1") == {"seed": 3}
    with pytest.raises(ConfigError, match=r"a\.yaml: expected settings such as seed: 1, found list"):
        read_settings(tmp_path / "a.yaml", example="seed: 1")
    assert list_presets(tmp_path) == ["a", "b"]


def test_a_mapping_may_hold_nothing_or_a_colon() -> None:
    settings: dict[str, object] = {}
    apply_overrides(settings, ["model={guide: null}", "loss={'a:b': 1}"])
    assert settings == {"model": {"guide": None}, "loss": {"a:b": 1}}
