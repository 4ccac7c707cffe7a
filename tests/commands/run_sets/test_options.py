"""Plans of run sets from command lines: new, resumed or refused."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from guidino_cli.commands.run_sets import run
from guidino_cli.commands.runs.result import RunResult, write_result
from guidino_cli.config import dump_config, load_preset, override
from guidino_cli.errors import ConfigError, DataError
from guidino_cli.options.training import LoraTuneOptions

Maker = Callable[..., Path]


def _tune(argv: Sequence[str]) -> int:
    """Write the files of a tuned run: the origin's settings with LoRA, and the hash of its weights."""
    folder, origin = Path(argv[argv.index("-o") + 1]), Path(argv[1])
    overrides = [argv[i + 1] for i, word in enumerate(argv) if word == "--set"]
    folder.mkdir(parents=True)
    config = override(load_preset(str(origin / "config.yaml")), ["model.lora={}", *overrides])
    (folder / "config.yaml").write_text(dump_config(config))
    facts = _facts(cases="") | {"origin": {"run": "before", "sha256": "of the weights that were"}}
    (folder / "run.json").write_text(json.dumps(facts))
    write_result(folder, RunResult(0.8, 3, 5, 60.0))
    return 0


def _facts(*, cases: str) -> dict[str, object]:
    data = {"cases": "cases.json", "sha256": cases}
    return {"format": 1, "classes": ["background", "x"], "data": data, "backbone": None}


def test_runs_of_other_settings_in_the_folder_are_refused(fake_runner, train, out: Path) -> None:
    train(fake_runner([0.6, 0.7]), seeds="2")
    path = out / "seed-1" / "config.yaml"
    config = load_preset(str(path))
    path.write_text(dump_config(replace(config, train=replace(config.train, lr=0.5))))
    with pytest.raises(ConfigError, match="seed-1: was trained with other settings than the set's"):
        train(fake_runner([]), preset=None, data=None, resume=True)


def test_a_finished_run_of_another_preset_is_not_adopted(fake_runner, train, out: Path) -> None:
    train(fake_runner([0.6]), seeds="1")
    for name in ("runs.json", "settings.yaml"):
        (out / name).unlink()
    same = fake_runner([0.7])
    train(same, seeds="2", resume=True)
    assert same.values == ["seed=1"]
    (out / "runs.json").unlink()
    with pytest.raises(ConfigError, match="seed-0: was trained with other settings than the set's"):
        train(fake_runner([]), seeds="2", overrides=["train.lr=0.5"], resume=True)


def test_a_run_of_other_cases_is_not_adopted(fake_runner, train, out: Path) -> None:
    train(fake_runner([0.6]), seeds="1")
    (out / "seed-0" / "run.json").write_text(json.dumps(_facts(cases="of another list")))
    with pytest.raises(ConfigError, match=r"seed-0: was trained with other cases than .*cases\.json"):
        train(fake_runner([]), preset=None, data=None, resume=True)


def test_a_run_that_started_from_other_weights_is_not_adopted(fake_runner, train, out: Path, tmp_path: Path) -> None:
    train(fake_runner([0.6]), seeds="1")
    options = LoraTuneOptions(seeds="1", out=tmp_path / "tuned", overrides=["train.epochs=2"])
    run.run("lora-tune", options, base_run=out, runner=_tune)
    resumed = replace(options, resume=True)
    run.run("lora-tune", resumed, base_run=out, runner=fake_runner([]))
    weights = out / "seed-0" / "best" / "model.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"others")
    with pytest.raises(ConfigError, match=r"seed-0: was trained with other weights than .*model\.safetensors"):
        run.run("lora-tune", resumed, base_run=out, runner=fake_runner([]))


def test_resuming_can_add_seeds_but_not_drop_them(fake_runner, train) -> None:
    train(fake_runner([0.6, 0.7]), seeds="2")
    more = fake_runner([0.8])
    train(more, seeds="3", resume=True)
    assert more.values == ["seed=2"]
    with pytest.raises(ConfigError, match="a set of seeds 0,1,2"):
        train(fake_runner([]), seeds="1", resume=True)


def test_resuming_with_other_settings_is_refused(fake_runner, train) -> None:
    train(fake_runner([0.6]), seeds="1")
    with pytest.raises(ConfigError, match="the set's own settings"):
        train(fake_runner([]), seeds="1", overrides=["train.lr=0.5"], resume=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": "2", "folds": "3"}, "give one of them"),
        ({"seeds": "2", "seed": 1}, "leave out --seed"),
        ({"seeds": "2", "overrides": ["seed=1"]}, "leave out --seed"),
        ({"folds": "3", "overrides": ["data.fold=1"]}, "leave out"),
        ({"seeds": "2", "out": None}, "add -o OUT"),
        ({"folds": "3", "data": None}, "no data: add --data"),
        ({"resume": True, "preset": None, "data": None}, "no set of runs to resume"),
    ],
)
def test_words_that_do_not_go_together_are_refused(
    fake_runner, train, options: dict[str, object], message: str
) -> None:
    runner = fake_runner([])
    with pytest.raises(ConfigError, match=message):
        train(runner, **options)
    assert runner.calls == []


def test_a_folder_that_is_not_empty_is_refused(fake_runner, train, out: Path) -> None:
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty"):
        train(fake_runner([]), seeds="2")


@pytest.mark.parametrize(
    ("folds", "message"), [("5", "the data has 3 folds"), ("2", "the data has 3 folds"), ("1,4", "has folds 0..2")]
)
def test_folds_that_the_data_does_not_have_are_refused(fake_runner, train, folds: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        train(fake_runner([]), folds=folds)


def test_data_without_folds_say_how_to_make_them(fake_runner, train, make_data: Maker) -> None:
    with pytest.raises(DataError, match="guidino prepare SOURCE -o DATA --folds 5"):
        train(fake_runner([]), folds="5", data=make_data("plain"))


def test_a_patient_in_two_folds_is_refused(fake_runner, train, make_data: Maker) -> None:
    data = make_data("leaky", fold_count=3, train=6, val=3)
    content = json.loads((data / "cases.json").read_text())
    for case in content["cases"][:2]:
        case["group"] = "patient 1"
    (data / "cases.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="group patient 1 is in two folds"):
        train(fake_runner([]), folds="3", data=data)


def test_tuning_one_run_over_folds_is_refused_since_it_was_trained_on_them(fake_runner, tmp_path: Path) -> None:
    options = LoraTuneOptions(folds="3", out=tmp_path / "out")
    with pytest.raises(ConfigError, match="was trained on cases that the folds validate on"):
        run.run("lora-tune", options, base_run=tmp_path / "run", runner=fake_runner([]))
