"""Run folders: contents, errors, and a full disk."""

import errno
from pathlib import Path
from typing import Any

import pytest
import torch

from guidino_cli.config import RunConfig, dump_config
from guidino_cli.engine.runs.folder import RunFolder
from guidino_cli.errors import ConfigError, DataError, ResourceError
from guidino_cli.models import build_model
from guidino_cli.models.composed import Model


def test_the_facts_name_the_backbone_and_the_data_by_their_hashes(run: RunFolder) -> None:
    facts = run.facts()
    assert len(facts["backbone"]["sha256"]) == 64
    assert facts["backbone"]["mean"] == [0.485, 0.456, 0.406]
    assert facts["backbone"]["std"] == [0.229, 0.224, 0.225]
    assert len(facts["data"]["sha256"]) == 64
    assert facts["packages"]["torch"] == torch.__version__


def test_a_state_is_read_back_unchanged(run: RunFolder) -> None:
    state = {"model": {"a": torch.arange(3.0)}, "epoch": 4, "rng": torch.get_rng_state(), "best": 0.5, "list": [1, 2]}
    run.save_state(state)
    loaded = run.load_state()
    assert torch.equal(loaded["model"]["a"], state["model"]["a"])
    assert {key: loaded[key] for key in ("epoch", "best", "list")} == {"epoch": 4, "best": 0.5, "list": [1, 2]}


def test_a_history_is_read_back_unchanged_and_its_table_has_every_column(run: RunFolder) -> None:
    rows = [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25, "val_dice": 0.75}]
    run.save_history(rows)
    assert run.history() == rows
    assert (run.path / "history.csv").read_text() == "epoch,loss,val_dice\n1,0.5,\n2,0.25,0.75\n"


def test_a_run_without_a_history_has_an_empty_one(run: RunFolder) -> None:
    assert run.history() == []


def test_a_damaged_line_of_the_history_is_named(run: RunFolder) -> None:
    path = run.path / "history.jsonl"
    path.write_text('{"epoch": 1, "loss": 2.0}\n{"epo\n{"epoch": 3, "loss": 1.0}\n')
    with pytest.raises(DataError, match=r"history\.jsonl, line 2: is damaged .*; repair or remove the line"):
        run.history(finished=3)


@pytest.mark.parametrize(("finished", "is_dropped"), [(1, True), (2, False), (None, False)])
def test_a_truncated_last_line_is_dropped_only_if_its_epoch_is_repeated(
    finished: int | None, is_dropped: bool, run: RunFolder
) -> None:
    (run.path / "history.jsonl").write_text('{"epoch": 1, "loss": 2.0}\n{"epoch": 2, "lo')
    if is_dropped:
        assert run.history(finished=finished) == [{"epoch": 1, "loss": 2.0}]
        return
    with pytest.raises(DataError, match="line 2: is damaged"):
        run.history(finished=finished)


def test_repeated_epochs_are_not_in_the_history(run: RunFolder) -> None:
    run.save_history([{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0}])
    assert run.history(finished=1) == [{"epoch": 1, "loss": 2.0}]


def test_a_new_run_needs_an_empty_folder_or_overwrite(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ConfigError, match=r"-o .*not empty.*--resume.*--overwrite.*another folder"):
        RunFolder(tmp_path).require_empty(overwrite=False)
    RunFolder(tmp_path).require_empty(overwrite=True)


def test_starting_anew_removes_the_old_runs_weights_state_and_history(run: RunFolder, config: RunConfig) -> None:
    run.save_state({"epoch": 1})
    run.save_history([{"epoch": 1}])
    run.create(config, {"classes": ["a", "b"]})
    assert not run.weights.exists()
    assert not run.state.exists()
    assert run.history() == []


def test_there_is_nothing_to_resume_without_a_finished_epoch(run: RunFolder) -> None:
    with pytest.raises(DataError, match=r"nothing to resume.*--overwrite"):
        run.load_state()


@pytest.mark.parametrize("keep", [0, 10, 300])
def test_a_damaged_state_is_refused_by_name(keep: int, run: RunFolder) -> None:
    run.save_state({"a": torch.rand(100)})
    run.state.write_bytes(run.state.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"state\.pt: is damaged .*--overwrite") as caught:
        run.load_state()
    assert "\n" not in str(caught.value)


def test_a_state_that_would_run_code_is_refused(run: RunFolder, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "sprung",)

    run.save_state({"epoch": Trap()})
    with pytest.raises(DataError, match=r"state\.pt: is damaged"):
        run.load_state()
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("what", ["weights", "state", "history"])
def test_a_full_disk_leaves_the_old_file_and_no_temporary_one(
    what: str, run: RunFolder, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build_model(config.model, num_classes=2)
    _save(run, what, model)
    path = {"weights": run.weights, "state": run.state, "history": run.path / "history.jsonl"}[what]
    before, files = path.read_bytes(), sorted(path.parent.iterdir())

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(ResourceError, match=r"cannot be written \(No space left on device\)") as caught:
        _save(run, what, model)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before
    assert sorted(path.parent.iterdir()) == files


def _save(run: RunFolder, what: str, model: Model) -> None:
    if what == "weights":
        run.save_weights(model)
    elif what == "state":
        run.save_state({"epoch": 1})
    else:
        run.save_history([{"epoch": 1}])


def test_the_configuration_in_the_folder_is_complete(run: RunFolder, config: RunConfig) -> None:
    assert (run.path / "config.yaml").read_text() == dump_config(config)
    assert run.config() == config
