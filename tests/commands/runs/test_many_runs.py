"""`--seeds` and `--folds`: which runs are started, what is skipped, lost or refused, and what the scores come to."""

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from guidino_cli.commands.runs import many_runs
from guidino_cli.commands.runs.result import RunResult, write_result
from guidino_cli.commands.runs.run_set import parse_values
from guidino_cli.config import dump, load_preset, override
from guidino_cli.errors import ConfigError, DataError, PartialError

Maker = Callable[..., Path]


class Trainings:
    """In place of child processes: writes what a run writes, and remembers the words."""

    def __init__(self, scores: Sequence[float], codes: Sequence[int] = ()) -> None:
        self.scores, self.codes, self.calls = list(scores), list(codes), []

    def __call__(self, words: Sequence[str]) -> int:
        self.calls.append(list(words))
        code = self.codes.pop(0) if self.codes else 0
        folder = Path(words[words.index("-o") + 1])
        if "--resume" not in words:
            folder.mkdir(parents=True, exist_ok=True)
            overrides = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
            (folder / "config.yaml").write_text(dump(load_preset("demo", overrides)))
            (folder / "last").mkdir(exist_ok=True)
            (folder / "last" / "state").write_text("")
        if code == 0:
            write_result(folder, RunResult(self.scores.pop(0), 3, 5, 60.0))
        return code


class _Tunings(Trainings):
    """Writes what a tuned run writes: the origin's settings with LoRA, and the hash of its weights."""

    def __call__(self, words: Sequence[str]) -> int:
        folder, origin = Path(words[words.index("-o") + 1]), Path(words[1])
        overrides = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
        folder.mkdir(parents=True)
        config = override(load_preset(str(origin / "config.yaml")), ["model.lora={}", *overrides])
        (folder / "config.yaml").write_text(dump(config))
        facts = {"data": {"sha256": ""}, "origin": {"sha256": "of the weights that were"}}
        (folder / "run.json").write_text(json.dumps(facts))
        write_result(folder, RunResult(self.scores.pop(0), 3, 5, 60.0))
        return 0


@pytest.fixture
def train(tmp_path: Path, make_data: Maker):
    """`many_runs.run` of `train` with the demo preset, into `out`."""
    data = make_data(fold_count=3, train=6, val=3)

    def call(caller: Trainings, **options: object) -> None:
        words = {"seeds": None, "folds": None, "preset": "demo", "data": data, "out": tmp_path / "out"}
        words |= {"overrides": [], "seed": None, "resume": False, "overwrite": False, "dry_run": False}
        many_runs.run("train", **(words | options), caller=caller)

    return call


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def _values_of_set(calls: list[list[str]]) -> list[str]:
    return [words[words.index("--set") + 1] for words in calls if "--set" in words]


# --- Which runs


@pytest.mark.parametrize(("text", "values"), [("3", [0, 1, 2]), ("4,7", [4, 7]), ("2,", [2])])
def test_a_number_is_how_many_and_a_list_is_which(text: str, values: list[int]) -> None:
    assert parse_values(text, "--seeds") == values


@pytest.mark.parametrize("text", ["0", "-1", "a", "1,1", "1;2", ",", ""])
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--seeds"):
        parse_values(text, "--seeds")


def test_every_seed_gets_a_run_of_its_own(train, out: Path) -> None:
    caller = Trainings([0.5, 0.5, 0.5])
    train(caller, seeds="3")
    assert _values_of_set(caller.calls) == ["seed=0", "seed=1", "seed=2"]
    assert [Path(words[words.index("-o") + 1]).name for words in caller.calls] == ["seed-0", "seed-1", "seed-2"]


def test_every_fold_gets_a_run_with_the_seed_that_was_asked_for(train) -> None:
    caller = Trainings([0.5, 0.5, 0.5])
    train(caller, folds="3", seed=7)
    assert _values_of_set(caller.calls) == ["data.fold=0", "data.fold=1", "data.fold=2"]
    settings = Path(caller.calls[0][caller.calls[0].index("--preset") + 1])
    assert load_preset(str(settings)).seed == 7


def test_a_dry_run_prints_the_command_lines_and_writes_nothing(
    train, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(Trainings([]), seeds="2", dry_run=True)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["guidino", "train"]] * 2
    assert not out.exists()


# --- What the scores come to


def test_mean_sample_deviation_and_range_are_those_of_paper_and_pencil(train, out: Path) -> None:
    train(Trainings([0.6, 0.7, 0.8]), seeds="3")
    found = json.loads((out / "runs.json").read_text())["val_dice"]
    assert found == pytest.approx({"runs": 3, "of": 3, "mean": 0.7, "sd": 0.1, "min": 0.6, "max": 0.8})


def test_one_run_has_no_spread(train, out: Path) -> None:
    train(Trainings([0.6]), seeds="1")
    assert json.loads((out / "runs.json").read_text())["val_dice"]["sd"] is None


def test_the_table_has_a_row_a_run_and_says_what_the_scores_are(
    train, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(Trainings([0.6, 0.7, 0.8]), folds="3")
    said = capsys.readouterr().out
    assert [line.split() for line in said.splitlines()[1:4]] == [
        [f"fold-{i}", score, "3", "5", "1.0"] for i, score in enumerate(("0.6000", "0.7000", "0.8000"))
    ]
    assert "mean val Dice 0.7000 +- 0.1000 (sample standard deviation) of 3 runs" in said
    assert "the fold that selected it: they flatter" in said
    assert all(len(line) <= 80 for line in said.splitlines() if str(out) not in line)
    with (out / "runs.csv").open() as file:
        assert [row["val_dice"] for row in csv.DictReader(file)] == ["0.6", "0.7", "0.8"]


# --- Failures


def test_a_run_that_fails_does_not_lose_the_others(train, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(PartialError, match=r"1 of 3 runs failed: seed-1 \(killed by signal 9, as the system does"):
        train(Trainings([0.6, 0.8], codes=[0, -9, 0]), seeds="3")
    assert "mean val Dice 0.7000 +- 0.1414 (sample standard deviation) of 2 of 3 runs" in capsys.readouterr().out
    content = json.loads((out / "runs.json").read_text())
    assert [row["exit_code"] for row in content["runs"]] == [0, -9, 0]


def test_a_failure_ends_with_6(guidino, make_data: Maker, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # `call` is the default of an argument: nothing of the command line is left out but the processes.
    monkeypatch.setitem(many_runs.run.__kwdefaults__, "caller", Trainings([0.6], codes=[0, 7]))
    outcome = guidino("train", "-p", "demo", "-d", make_data(), "-o", out, "--seeds", "2")
    assert outcome.code == 6
    assert "seed-1 (exit code 7: out of memory or disk space)" in outcome.stderr


# --- Going on


def test_resuming_skips_what_is_finished_and_goes_on_with_what_has_a_state(train, out: Path) -> None:
    with pytest.raises(PartialError):
        train(Trainings([0.6, 0.8], codes=[0, 7, 0]), seeds="3")
    again = Trainings([0.7])
    train(again, seeds=None, preset=None, data=None, resume=True)
    assert [words[:4] for words in again.calls] == [["train", "--resume", "-o", str(out / "seed-1")]]
    assert json.loads((out / "runs.json").read_text())["val_dice"]["mean"] == pytest.approx(0.7)


def test_a_run_that_left_no_state_starts_anew(train, out: Path) -> None:
    def dies_early(words: Sequence[str]) -> int:
        Path(words[words.index("-o") + 1]).mkdir(parents=True)
        return 3

    with pytest.raises(PartialError):
        train(dies_early, seeds="1")
    again = Trainings([0.7])
    train(again, preset=None, data=None, resume=True)
    assert "--resume" not in again.calls[0]
    assert "--overwrite" in again.calls[0]


def test_resuming_can_add_seeds_but_not_drop_them(train) -> None:
    train(Trainings([0.6, 0.7]), seeds="2")
    more = Trainings([0.8])
    train(more, seeds="3", resume=True)
    assert _values_of_set(more.calls) == ["seed=2"]
    with pytest.raises(ConfigError, match="a set of seeds 0,1,2"):
        train(Trainings([]), seeds="1", resume=True)


def test_resuming_with_other_settings_is_refused(train) -> None:
    train(Trainings([0.6]), seeds="1")
    with pytest.raises(ConfigError, match="the set's own settings"):
        train(Trainings([]), seeds="1", overrides=["train.lr=0.5"], resume=True)


def test_an_interruption_keeps_what_is_done_and_says_how_to_go_on(
    train, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainings = Trainings([0.6])

    def interrupted(words: Sequence[str]) -> int:
        if trainings.calls:
            raise KeyboardInterrupt
        return trainings(words)

    with pytest.raises(KeyboardInterrupt):
        train(interrupted, seeds="2")
    assert f"guidino train --resume -o {out}" in capsys.readouterr().err
    assert [row["exit_code"] for row in json.loads((out / "runs.json").read_text())["runs"]] == [0, None]


def test_runs_of_other_settings_in_the_folder_are_refused(train, out: Path) -> None:
    train(Trainings([0.6, 0.7]), seeds="2")
    path = out / "seed-1" / "config.yaml"
    config = load_preset(str(path))
    path.write_text(dump(replace(config, train=replace(config.train, lr=0.5))))
    with pytest.raises(ConfigError, match="seed-1: was trained with other settings than the set's"):
        train(Trainings([]), preset=None, data=None, resume=True)


def test_a_finished_run_of_another_preset_is_not_adopted(train, out: Path) -> None:
    train(Trainings([0.6]), seeds="1")
    for name in ("runs.json", "settings.yaml"):
        (out / name).unlink()
    same = Trainings([0.7])
    train(same, seeds="2", resume=True)
    assert _values_of_set(same.calls) == ["seed=1"]
    (out / "runs.json").unlink()
    with pytest.raises(ConfigError, match="seed-0: was trained with other settings than the set's"):
        train(Trainings([]), seeds="2", overrides=["train.lr=0.5"], resume=True)


def test_a_run_of_other_cases_is_not_adopted(train, out: Path) -> None:
    train(Trainings([0.6]), seeds="1")
    (out / "seed-0" / "run.json").write_text(json.dumps({"data": {"sha256": "of another list"}}))
    with pytest.raises(ConfigError, match=r"seed-0: was trained with other cases than .*cases\.json"):
        train(Trainings([]), preset=None, data=None, resume=True)


def test_a_run_that_began_with_other_weights_is_not_adopted(train, out: Path, tmp_path: Path) -> None:
    train(Trainings([0.6]), seeds="1")
    words = {"seeds": "1", "folds": None, "origin": out, "preset": None, "data": None, "out": tmp_path / "tuned"}
    words |= {"overrides": ["train.epochs=2"], "seed": None, "overwrite": False, "dry_run": False}
    many_runs.run("lora-tune", **words, resume=False, caller=_Tunings([0.8]))
    many_runs.run("lora-tune", **words, resume=True, caller=Trainings([]))
    weights = out / "seed-0" / "best" / "model.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"others")
    with pytest.raises(ConfigError, match=r"seed-0: was trained with other weights than .*model\.safetensors"):
        many_runs.run("lora-tune", **words, resume=True, caller=Trainings([]))


def test_half_a_state_left_by_a_kill_is_nothing_to_go_on_from(train, out: Path) -> None:
    def killed(words: Sequence[str]) -> int:
        (out / "seed-0" / "last").mkdir(parents=True)
        (out / "seed-0" / "last" / ".state.7.tmp.pt").write_text("half")
        return -9

    with pytest.raises(PartialError):
        train(killed, seeds="1")
    again = Trainings([0.7])
    train(again, preset=None, data=None, resume=True)
    assert "--resume" not in again.calls[0]


def test_overwriting_takes_nothing_over_from_the_old_set(train, out: Path) -> None:
    train(Trainings([0.6, 0.7]), seeds="2")
    again = Trainings([0.1], codes=[0, 4])
    with pytest.raises(PartialError):
        train(again, seeds="2", overwrite=True)
    assert all("--resume" not in words for words in again.calls)
    assert json.loads((out / "runs.json").read_text())["val_dice"]["max"] == 0.1


# --- Refusals


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
def test_words_that_do_not_go_together_are_refused(train, options: dict[str, object], message: str) -> None:
    caller = Trainings([])
    with pytest.raises(ConfigError, match=message):
        train(caller, **options)
    assert caller.calls == []


def test_a_folder_that_is_not_empty_is_refused(train, out: Path) -> None:
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty"):
        train(Trainings([]), seeds="2")


@pytest.mark.parametrize(
    ("folds", "message"), [("5", "the data has 3 folds"), ("2", "the data has 3 folds"), ("1,4", "has folds 0..2")]
)
def test_folds_that_the_data_does_not_have_are_refused(train, folds: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        train(Trainings([]), folds=folds)


def test_data_without_folds_say_how_to_make_them(train, make_data: Maker) -> None:
    with pytest.raises(DataError, match="guidino prepare SOURCE -o DATA --folds 5"):
        train(Trainings([]), folds="5", data=make_data("plain"))


def test_a_patient_in_two_folds_is_refused(train, make_data: Maker) -> None:
    data = make_data("leaky", fold_count=3, train=6, val=3)
    content = json.loads((data / "cases.json").read_text())
    for case in content["cases"][:2]:
        case["group"] = "patient 1"
    (data / "cases.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="group patient 1 is in two folds"):
        train(Trainings([]), folds="3", data=data)


def test_one_run_tuned_over_folds_is_refused_for_it_has_seen_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has seen the cases that folds validate on"):
        many_runs.run(
            "lora-tune", seeds=None, folds="3", origin=tmp_path / "run", preset=None, data=None, out=tmp_path / "out",
            overrides=[], seed=None, resume=False, overwrite=False, dry_run=False, caller=Trainings([]),
        )  # fmt: skip


def test_a_set_is_tuned_run_by_run(train, out: Path, tmp_path: Path) -> None:
    train(Trainings([0.6, 0.7]), seeds="2")
    caller = Trainings([0.8, 0.9])
    many_runs.run(
        "lora-tune", seeds="2", folds=None, origin=out, preset=None, data=None, out=tmp_path / "tuned",
        overrides=[], seed=None, resume=False, overwrite=False, dry_run=False, caller=caller,
    )  # fmt: skip
    assert [words[:2] for words in caller.calls] == [["lora-tune", str(out / f"seed-{i}")] for i in range(2)]


def test_starting_a_set_imports_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys; import guidino_cli.commands.runs.many_runs; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
