"""Settings of pretraining: packaged presets, overrides and validation."""

from pathlib import Path

import pytest

from guidino_cli.config import preset_names
from guidino_cli.errors import ConfigError
from guidino_cli.pretrain_config import (
    PretrainConfig,
    dump_pretrain_config,
    load_pretrain_preset,
    override_pretrain_config,
    pretrain_preset_names,
    read_pretrain_config,
)


def test_meddinov3_has_the_three_stages_of_the_paper() -> None:
    config = load_pretrain_preset("meddinov3")
    assert config.steps == 120_000
    assert [(stage.steps, stage.lr, stage.gram) for stage in config.stages] == [
        (100_000, 2e-4, 0.0),
        (10_000, 5e-5, 2.0),
        (10_000, 2.5e-5, 2.0),
    ]
    assert (config.dino.koleo, config.dino.gram_step, config.stages[1].crops[0].gram_size) == (0.1, 20_000, 512)
    assert [(stage.local_weight, stage.flip, stage.koleo_group) for stage in config.stages] == [
        (1.0, None, None),
        (0.5, 0.0, None),
        (0.5, 0.0, 16),
    ]
    sizes = config.stages[2].crops
    assert {item.global_size for item in sizes} == {512, 768}
    assert (min(item.local_size for item in sizes), max(item.local_size for item in sizes)) == (112, 336)


@pytest.mark.parametrize("name", pretrain_preset_names())
def test_stored_images_are_at_least_as_large_as_their_crops(name: str) -> None:
    config = load_pretrain_preset(name)
    for stage in config.stages:
        largest = max(max(item.global_size, item.gram_size or 0) for item in stage.crops)
        assert (stage.side or config.data.side) >= largest


def test_presets_of_training_and_pretraining_have_distinct_names() -> None:
    assert {"meddinov3", "small"} <= set(pretrain_preset_names())
    assert not set(pretrain_preset_names()) & set(preset_names())


def test_stages_follow_each_other_without_gaps() -> None:
    config = override_pretrain_config(
        PretrainConfig(), ["stages=[{name: a, steps: 3, lr: 1e-3}, {name: b, steps: 2, lr: 1e-4}]"]
    )
    found = [(config.stage_at(step)[0].name, config.stage_at(step)[1]) for step in range(6)]
    assert found == [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1), ("b", 2)]


def test_a_dumped_config_is_read_back(tmp_path: Path) -> None:
    config = load_pretrain_preset("small", ["seed=7", "dino.global_area=[0.4, 0.9]"])
    (tmp_path / "config.yaml").write_text(dump_pretrain_config(config))
    assert read_pretrain_config(tmp_path / "config.yaml") == config


def test_an_override_reaches_into_a_stage() -> None:
    assert load_pretrain_preset("meddinov3", ["stages.2.crops.1.weight=0.7"]).stages[2].crops[1].weight == 0.7


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages.5.steps=1", "none of the 1 items"),
        ("stages.0.step=1", "did you mean 'steps'"),
        ("dino.protoypes=1", "did you mean 'prototypes'"),
        ("stages=[]", "stages is empty"),
        ("stages.0.crops=[]", "crops is empty"),
        ("stages.0.warmup_steps=99999", "more than its"),
        ("dino.global_area=[0.9, 0.2]", "the smaller one first"),
        ("stages.0.momentum=1.5", "stages.0.momentum"),
        ("seed=4294967296", "seed: "),
    ],
)
def test_invalid_settings_are_refused_by_name(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        load_pretrain_preset("small", [override])


def test_a_gram_teacher_must_come_from_an_earlier_step() -> None:
    with pytest.raises(ConfigError, match="gram_step is 60000, but a stage with a Gram term begins at step 50000"):
        load_pretrain_preset("meddinov3", ["stages.0.steps=50000", "dino.gram_step=60000"])


def test_an_unknown_preset_gets_a_suggestion() -> None:
    with pytest.raises(ConfigError, match="did you mean 'meddinov3'"):
        load_pretrain_preset("meddino")
