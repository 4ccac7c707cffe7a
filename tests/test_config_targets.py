"""Settings that do not go with `model.target: affinities`, one line each, and the presets that have it."""

import pytest

from guidino_cli.config import load_preset
from guidino_cli.errors import ConfigError


@pytest.mark.parametrize("preset", ["instances-em", "instances-3d", "instances-em-3d"])
def test_the_presets_learn_affinities_with_adam_at_1e_3(preset: str) -> None:
    config = load_preset(preset)
    assert (config.model.target, config.train.loss) == ("affinities", {"affinities": 1})
    assert (config.train.optimizer, config.train.lr, config.train.weight_decay) == ("adamw", 1e-3, 0)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.loss={dice: 1, affinities: 1}", "train.loss has dice, of classes, but model.target is affinities"),
        ("train.loss={}", "train.loss is empty, but model.target is affinities"),
        ("predict.mirror=true", "needs predict.mirror=false: a flip moves every affinity to another pixel"),
        ("predict.mirror=[x]", "needs predict.mirror=false"),
        ("data.resize=stretch", "needs data.resize=none: affinities are between neighbouring pixels"),
        ("data.ignore_label=9", "needs data.ignore_label=null: masks hold instance numbers"),
        ("model.target=classes", "train.loss has affinities, which model.target=affinities learns"),
        ("predict.threshold=1", "predict.threshold"),
        ("predict.instances=mutex", "predict.instances"),
    ],
)
def test_settings_that_contradict_it_are_one_line(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_preset("instances-em", [override])
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_loss_of_affinities_without_the_target_is_refused() -> None:
    with pytest.raises(ConfigError, match="set both"):
        load_preset("own-plain-unet", ["train.loss={affinities: 1}"])
