"""Words that begin a set or go on with one, and those that are refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from guidino_cli.commands.sets import running
from guidino_cli.errors import ConfigError, DataError

Maker = Callable[..., Path]


def test_resuming_can_add_seeds_but_not_drop_them(trainings, train) -> None:
    train(trainings([0.6, 0.7]), seeds="2")
    more = trainings([0.8])
    train(more, seeds="3", resume=True)
    assert more.values == ["seed=2"]
    with pytest.raises(ConfigError, match="a set of seeds 0,1,2"):
        train(trainings([]), seeds="1", resume=True)


def test_resuming_with_other_settings_is_refused(trainings, train) -> None:
    train(trainings([0.6]), seeds="1")
    with pytest.raises(ConfigError, match="the set's own settings"):
        train(trainings([]), seeds="1", overrides=["train.lr=0.5"], resume=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": "2", "folds": "3"}, "one at a time"),
        ({"seeds": "2", "seed": 1}, "leave out --seed"),
        ({"seeds": "2", "overrides": ["seed=1"]}, "leave out --seed"),
        ({"folds": "3", "overrides": ["data.fold=1"]}, "leave out"),
        ({"seeds": "2", "out": None}, "add -o OUT"),
        ({"folds": "3", "data": None}, "no data: add --data"),
        ({"resume": True, "preset": None, "data": None}, "no set of runs to go on with"),
    ],
)
def test_words_that_do_not_go_together_are_refused(trainings, train, options: dict[str, object], message: str) -> None:
    caller = trainings([])
    with pytest.raises(ConfigError, match=message):
        train(caller, **options)
    assert caller.calls == []


def test_a_folder_that_is_not_empty_is_refused(trainings, train, out: Path) -> None:
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty"):
        train(trainings([]), seeds="2")


@pytest.mark.parametrize(
    ("folds", "message"), [("5", "the data has 3 folds"), ("2", "the data has 3 folds"), ("1,4", "has folds 0..2")]
)
def test_folds_that_the_data_does_not_have_are_refused(trainings, train, folds: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        train(trainings([]), folds=folds)


def test_data_without_folds_say_how_to_make_them(trainings, train, make_data: Maker) -> None:
    with pytest.raises(DataError, match="guidino prepare SOURCE -o DATA --folds 5"):
        train(trainings([]), folds="5", data=make_data("plain"))


def test_a_patient_in_two_folds_is_refused(trainings, train, make_data: Maker) -> None:
    data = make_data("leaky", fold_count=3, train=6, val=3)
    content = json.loads((data / "cases.json").read_text())
    for case in content["cases"][:2]:
        case["group"] = "patient 1"
    (data / "cases.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="group patient 1 is in two folds"):
        train(trainings([]), folds="3", data=data)


def test_one_run_tuned_over_folds_is_refused_for_it_has_seen_them(trainings, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has seen the cases that folds validate on"):
        running.run(
            "lora-tune", seeds=None, folds="3", origin=tmp_path / "run", preset=None, data=None, out=tmp_path / "out",
            overrides=[], seed=None, resume=False, overwrite=False, dry_run=False, caller=trainings([]),
        )  # fmt: skip
