"""Presets that inherit: what is merged, what replaces, where values come from, and bases that cannot be used."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from guidino_cli.config import load_config, load_preset, merge_preset, override
from guidino_cli.errors import ConfigError
from guidino_cli.pretrain_config import load_pretrain_preset

Guidino = Callable[..., Any]
Write = Callable[[str, str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a preset and return its path: `write("mine", "base: own-unet")`."""

    def save(name: str, text: str) -> str:
        path = tmp_path / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return str(path)

    return save


def test_a_base_alone_is_the_base_but_for_what_it_says_of_itself(write: Write) -> None:
    config = load_preset(write("mine", "base: kvasir-nnwnet"))
    assert config == override(load_preset("kvasir-nnwnet"), ["description=''", "paper=''"])


def test_what_differs_replaces_and_the_rest_stays(write: Write) -> None:
    config = load_preset(write("mine", "base: own-unet\ntrain: {epochs: 7, loss: {dice: 3}}\npredict: {mirror: [y]}"))
    assert config == override(
        load_preset("own-unet"),
        ["train.epochs=7", "train.loss={dice: 3, cross_entropy: 1}", "predict.mirror=[y]", "description=''"],
    )


def test_chains_are_merged_from_the_far_end(write: Write) -> None:
    write("a", "base: own-unet\ntrain: {epochs: 5, batch_size: 2}")
    write("b", "base: a.yaml\ntrain: {epochs: 6, lr: 1e-2}")
    config = load_preset(write("c", "base: b.yaml\ntrain: {lr: 1e-5}"), ["train.batch_size=9"])
    assert (config.train.epochs, config.train.lr, config.train.batch_size) == (6, 1e-5, 9)


def test_a_base_is_found_beside_the_file_that_names_it(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("team/a", "base: own-unet\ntrain: {epochs: 5}")
    write("team/b", "base: a.yaml")
    path = write("people/mine", "base: ../team/b.yaml")
    monkeypatch.chdir(Path("/"))
    assert load_preset(path).train.epochs == 5


def test_null_removes_a_part_and_an_empty_base_is_none(write: Write) -> None:
    mine = write("mine", "base: own-unet\nmodel: {guide: null, backbone: null, segmenter: {name: unet}}")
    assert load_preset(mine).model.guide is None
    assert load_preset(write("none", "base: null\ntrain: {epochs: 3}")).train.epochs == 3


def test_another_part_does_not_inherit_the_options_of_the_previous_one(write: Write) -> None:
    write("a", "model: {segmenter: {name: unet, options: {width: 16}}}")
    assert load_preset(write("b", "base: a.yaml\nmodel: {segmenter: {name: nnwnet}}")).model.segmenter.options == {}
    same = load_preset(write("c", "base: a.yaml\nmodel: {segmenter: {name: unet}}"))
    assert same.model.segmenter.options == {"width": 16}
    options = "{options: {depth: 3}}"
    assert load_preset(write("d", f"base: a.yaml\nmodel: {{segmenter: {options}}}")).model.segmenter.options == {
        "width": 16,
        "depth": 3,
    }


def test_weights_replace_the_size_of_a_backbone(write: Write) -> None:
    write("a", "base: kvasir-unet\nmodel: {backbone: {options: {size: base}}}")
    mine = write("b", "base: a.yaml\nmodel: {backbone: {options: {weights: /w}}}")
    backbone = load_preset(mine).model.backbone
    assert backbone is not None
    assert "size" not in backbone.options
    assert "model.backbone.options.size" not in merge_preset(mine).origins


def test_every_value_has_its_origin(write: Write) -> None:
    write("a", "base: own-unet\ntrain: {epochs: 5}\npaper: no")
    merged = merge_preset(write("b", "base: a.yaml\ndata: {image_size: 64}\nmodel: {guide: null}"))
    origins = {key: merged.origins.get(key) for key in ("train.epochs", "model.reduction", "seed", "paper")}
    assert origins == {"train.epochs": "a.yaml", "model.reduction": "own-unet", "seed": None, "paper": None}
    assert merged.origins["data.image_size"] == merged.origins["model.guide"] == merged.names[0]
    # What was removed comes from nowhere.
    assert not any(key.startswith("model.guide.") for key in merged.origins)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"mine": "base: own-unt"}, "mine.yaml: base: unknown preset 'own-unt'; did you mean 'own-unet"),
        ({"mine": "base: mine.yaml"}, r"mine.yaml: base: mine.yaml leads back to itself \(mine.yaml -> mine.yaml\)"),
        (
            {"mine": "base: a.yaml", "a": "base: b.yaml", "b": "base: a.yaml"},
            r"b.yaml: base: a.yaml leads back to itself \(a.yaml -> b.yaml -> a.yaml\); remove one",
        ),
        ({"mine": "base: gone.yaml"}, r"mine.yaml: base: gone.yaml: no such file \(.*gone.yaml\)"),
        ({"mine": "base: [a, b]"}, "mine.yaml: base: expected the name of a preset or the path of a YAML file, found"),
        ({"mine": "base: ''"}, "base: expected the name"),
        ({"mine": "bse: own-unet"}, "mine.yaml: unknown setting 'bse'; did you mean 'base'"),
        ({"mine": "Base: own-unet"}, "unknown setting 'Base'; did you mean 'base'"),
        ({"mine": "base: 3"}, "base: expected the name"),
        ({"mine": "base: a.yaml", "a": "- 1"}, "a.yaml: expected settings such as"),
        ({"mine": "base: a.yaml", "a": "{"}, "a.yaml: not valid YAML"),
        (
            {"mine": "base: a.yaml", "a": "train: {epoch: 3}"},
            r"mine.yaml \(base a.yaml\): train.epoch: unknown",
        ),
        ({"mine": "base: own-unet\ntrain: 3"}, "train: expected settings such as"),
    ],
)
def test_a_base_that_cannot_be_used_is_named(write: Write, files: dict[str, str], message: str) -> None:
    paths = {name: write(name, text) for name, text in files.items()}
    with pytest.raises(ConfigError, match=message):
        load_preset(paths["mine"])


def test_a_base_is_no_override() -> None:
    with pytest.raises(ConfigError, match=r"--set base=demo: a base is named in a preset file .*--preset demo"):
        load_preset("own-unet", ["base=demo"])


def test_presets_of_pretraining_inherit_too(write: Write) -> None:
    config = load_pretrain_preset(write("mine", "base: tiny\nseed: 5"))
    assert config.seed == 5
    assert config.stages == load_pretrain_preset("tiny").stages
    with pytest.raises(ConfigError, match="unknown pretraining preset 'own-unet'"):
        load_pretrain_preset(write("other", "base: own-unet"))


def test_what_is_wrong_with_a_preset_of_pretraining_is_said_as_of_one(guidino: Guidino, write: Write) -> None:
    outcome = guidino("presets", write("mine", "base: tiny\nstages: []"))
    assert outcome.code == 2
    assert "stages is empty" in outcome.stderr


def test_origins_are_printed_as_yaml_that_is_the_merged_preset(guidino: Guidino, write: Write) -> None:
    mine = write("mine", "base: own-unet\ntrain: {epochs: 7}\ndescription: 'a: # b'")
    outcome = guidino("presets", mine, "--origins")
    assert outcome.code == 0
    Path(write("copy", outcome.stdout))
    assert load_config(Path(mine).with_name("copy.yaml")) == load_preset(mine)
    lines = [line.strip() for line in outcome.stdout.splitlines()]
    assert f"epochs: 7  # {mine}" in lines
    assert "reduction: 3  # own-unet" in lines
    assert "seed: 0  # default" in lines
    assert yaml.safe_load(guidino("presets", mine, "--resolved").stdout)["train"]["epochs"] == 7
    assert guidino("presets", mine).stdout == Path(mine).read_text()


def test_a_circle_is_one_line_on_the_command_line(guidino: Guidino, write: Write, tmp_path: Path) -> None:
    mine = write("mine", "base: mine.yaml")
    for words in (("presets", mine), ("train", "-p", mine, "-d", tmp_path, "-o", tmp_path / "run")):
        outcome = guidino(*words)
        assert (outcome.code, outcome.stdout, outcome.stderr.count("\n")) == (2, "", 1)
