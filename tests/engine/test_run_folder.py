"""A run's folder: what it holds, what is refused, and what a full disk leaves behind."""

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from guidino_cli.config import RunConfig, dump, override
from guidino_cli.engine.run_folder import RunFolder, load_run, require_same_model, run_facts
from guidino_cli.errors import ConfigError, DataError, ResourceError, WeightsError
from guidino_cli.models import build_model
from guidino_cli.models.composed import Model

SETTINGS = (
    "model.segmenter={name: unet, options: {width: 4}}",
    "model.backbone={name: random, options: {hidden_size: 32, depth: 1, heads: 2}}",
    "model.guide={at: bottleneck, options: {prototypes: 4}}",
)


@pytest.fixture
def config() -> RunConfig:
    return override(RunConfig(), SETTINGS)


@pytest.fixture
def run(config: RunConfig, make_data: Callable[..., Path], tmp_path: Path) -> RunFolder:
    """A run folder with weights."""
    folder, model = RunFolder(tmp_path / "run"), build_model(config.model, num_classes=2)
    folder.create(config, run_facts(model, classes=["background", "polyp"], data=make_data()))
    folder.save_weights(model)
    return folder


def _edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


# --- What it holds


def test_a_loaded_run_is_the_model_that_was_saved(run: RunFolder, config: RunConfig) -> None:
    torch.manual_seed(1)
    model = build_model(config.model, num_classes=2).eval()
    run.save_weights(model)
    loaded, loaded_config, facts = load_run(run.path)
    image = torch.rand(1, 3, 33, 41)
    assert torch.equal(loaded(image).logits[0], model(image).logits[0])
    assert loaded_config == config
    assert facts["classes"] == ["background", "polyp"]
    assert not loaded.training


def test_saved_weights_leave_the_frozen_backbone_out(run: RunFolder) -> None:
    names = set(load_file(run.weights))
    assert not [name for name in names if name.startswith("backbone.")]
    assert {name.split(".")[0] for name in names} == {"segmenter", "guide"}


def test_the_facts_name_the_backbone_and_the_data_by_their_hashes(run: RunFolder) -> None:
    facts = run.facts()
    assert len(facts["backbone"]["sha256"]) == 64
    assert len(facts["data"]["sha256"]) == 64
    assert facts["packages"]["torch"] == torch.__version__


def test_a_state_comes_back_as_it_was(run: RunFolder) -> None:
    state = {"model": {"a": torch.arange(3.0)}, "epoch": 4, "rng": torch.get_rng_state(), "best": 0.5, "list": [1, 2]}
    run.save_state(state)
    loaded = run.load_state()
    assert torch.equal(loaded["model"]["a"], state["model"]["a"])
    assert {key: loaded[key] for key in ("epoch", "best", "list")} == {"epoch": 4, "best": 0.5, "list": [1, 2]}


def test_a_history_comes_back_as_it_was_and_its_table_has_every_column(run: RunFolder) -> None:
    rows = [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25, "val_dice": 0.75}]
    run.save_history(rows)
    assert run.history() == rows
    assert (run.path / "history.csv").read_text() == "epoch,loss,val_dice\n1,0.5,\n2,0.25,0.75\n"


def test_a_run_without_a_history_has_an_empty_one(run: RunFolder) -> None:
    assert run.history() == []


# --- Starting


def test_a_damaged_line_of_the_history_is_named(run: RunFolder) -> None:
    path = run.path / "history.jsonl"
    path.write_text('{"epoch": 1, "loss": 2.0}\n{"epo\n{"epoch": 3, "loss": 1.0}\n')
    with pytest.raises(DataError, match=r"history\.jsonl, line 2: is damaged .*; put it right, or remove the line"):
        run.history(finished=3)


@pytest.mark.parametrize(("finished", "is_dropped"), [(1, True), (2, False), (None, False)])
def test_a_last_line_that_is_cut_is_dropped_only_if_its_epoch_comes_again(
    finished: int | None, is_dropped: bool, run: RunFolder
) -> None:
    (run.path / "history.jsonl").write_text('{"epoch": 1, "loss": 2.0}\n{"epoch": 2, "lo')
    if is_dropped:
        assert run.history(finished=finished) == [{"epoch": 1, "loss": 2.0}]
        return
    with pytest.raises(DataError, match="line 2: is damaged"):
        run.history(finished=finished)


def test_epochs_that_come_again_are_not_in_the_history(run: RunFolder) -> None:
    run.save_history([{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0}])
    assert run.history(finished=1) == [{"epoch": 1, "loss": 2.0}]


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ConfigError, match=r"not empty.*--resume.*--overwrite.*-o"):
        RunFolder(tmp_path).require_empty(overwrite=False)
    RunFolder(tmp_path).require_empty(overwrite=True)


def test_a_missing_or_empty_folder_is_welcome(tmp_path: Path) -> None:
    RunFolder(tmp_path).require_empty(overwrite=False)
    RunFolder(tmp_path / "new").require_empty(overwrite=False)


def test_starting_anew_removes_the_old_runs_weights_state_and_history(run: RunFolder, config: RunConfig) -> None:
    run.save_state({"epoch": 1})
    run.save_history([{"epoch": 1}])
    run.create(config, {"classes": ["a", "b"]})
    assert not run.weights.exists()
    assert not run.state.exists()
    assert run.history() == []


# --- Refusals


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no config\.yaml, so not a run"):
        load_run(tmp_path)


def test_a_set_of_runs_a_prepared_folder_and_nothing_at_all_are_called_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "set" / "seed-0").mkdir(parents=True)
    (tmp_path / "set" / "seed-0" / "config.yaml").touch()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cases.json").touch()
    for name, words in (("set", "a set of runs, not one of them"), ("data", "prepared data"), ("x", "no such folder")):
        with pytest.raises(DataError, match=words):
            load_run(tmp_path / name)


def test_a_run_without_weights_says_how_to_get_them(run: RunFolder) -> None:
    run.weights.unlink()
    with pytest.raises(WeightsError, match=r"no trained weights.*guidino train --resume"):
        load_run(run.path)


@pytest.mark.parametrize("content", [b"", b"not safetensors at all"])
def test_damaged_weights_are_refused_by_name(content: bytes, run: RunFolder) -> None:
    run.weights.write_bytes(content)
    with pytest.raises(WeightsError, match=r"model\.safetensors: no usable weights"):
        load_run(run.path)


def test_truncated_weights_are_refused_by_name(run: RunFolder) -> None:
    run.weights.write_bytes(run.weights.read_bytes()[:-100])
    with pytest.raises(WeightsError, match=r"model\.safetensors: no usable weights"):
        load_run(run.path)


def test_weights_of_another_network_are_refused_and_not_half_loaded(run: RunFolder) -> None:
    other = override(RunConfig(), [*SETTINGS, "model.segmenter={name: nnwnet, options: {width: 2}}"])
    run.save_weights(build_model(other.model, num_classes=2))
    with pytest.raises(WeightsError, match=r"does not fit the model: \d+ missing .*\d+ unexpected"):
        load_run(run.path)


def test_weights_for_another_number_of_classes_are_refused(run: RunFolder, config: RunConfig) -> None:
    run.save_weights(build_model(config.model, num_classes=3))
    with pytest.raises(WeightsError, match=r"of another shape \(segmenter\.head"):
        load_run(run.path)


def test_weights_without_their_guide_are_refused(run: RunFolder, config: RunConfig) -> None:
    plain = override(config, ["model.guide=null", "model.backbone=null"])
    run.save_weights(build_model(plain.model, num_classes=2))
    with pytest.raises(WeightsError, match=r"missing \(guide\."):
        load_run(run.path)


def test_compiled_weights_are_refused_and_not_dropped(run: RunFolder, config: RunConfig) -> None:
    """torch.compile puts `_orig_mod.` before every name."""
    from safetensors.torch import save_file

    save_file({f"_orig_mod.{key}": value for key, value in load_file(run.weights).items()}, run.weights)
    with pytest.raises(WeightsError, match="_orig_mod"):
        load_run(run.path)


def test_another_backbone_is_refused(run: RunFolder) -> None:
    (run.path / "config.yaml").write_text((run.path / "config.yaml").read_text().replace("depth: 1", "depth: 2"))
    with pytest.raises(WeightsError, match=r"SHA-256 .*random, seed 0.*give those"):
        load_run(run.path)


def test_a_run_of_another_format_is_refused(run: RunFolder) -> None:
    _edit(run.path / "run.json", format=99)
    with pytest.raises(DataError, match=r"run\.json: written in format 99, this guidino reads format 1"):
        load_run(run.path)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_a_damaged_fact_sheet_is_refused_by_name(text: str, run: RunFolder) -> None:
    (run.path / "run.json").write_text(text)
    with pytest.raises(DataError, match=r"run\.json"):
        load_run(run.path)


@pytest.mark.parametrize("item", ["train.epochs=3", "data.image_size=32", "seed=1"])
def test_a_setting_that_training_has_used_up_is_refused(item: str, run: RunFolder) -> None:
    with pytest.raises(ConfigError, match=r"is trained already; here predict\.\* can be set"):
        load_run(run.path, overrides=(item,))


def test_a_setting_of_prediction_may_be_overridden(run: RunFolder) -> None:
    assert load_run(run.path, overrides=("predict.mirror=false",))[1].predict.mirror is False


@pytest.mark.parametrize("item", ["model.guide.at=input", "model.guide.residual=true", "model.segmenter.name=nnwnet"])
def test_a_setting_that_would_change_the_model_is_refused(item: str, run: RunFolder) -> None:
    """The weights of a guide at another place would fit, and the masks be wrong."""
    with pytest.raises(ConfigError, match=item.split("=")[0]):
        load_run(run.path, overrides=(item,))


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


# --- A full disk


@pytest.mark.parametrize("what", ["weights", "state", "history"])
def test_a_full_disk_leaves_the_old_file_and_no_rest(
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
    assert (run.path / "config.yaml").read_text() == dump(config)
    assert run.config() == config


def test_a_run_with_official_weights_takes_a_folder_of_them_but_no_other_size(tmp_path: Path) -> None:
    trained = override(RunConfig(), ["model.backbone={name: dinov3, options: {size: base, layers: [6]}}"])
    moved = override(trained, [f"model.backbone.options.weights={tmp_path}"])
    require_same_model(tmp_path, trained.model, moved.model)
    with pytest.raises(ConfigError, match=r"model\.backbone\.options\.size is what the run was trained with"):
        require_same_model(tmp_path, trained.model, override(trained, ["model.backbone.options.size=large"]).model)


def test_a_run_does_not_need_the_weights_that_its_segmenter_began_with(
    make_data: Callable[..., Path], tmp_path: Path
) -> None:
    """They were on the machine that trained; the run has its own."""
    plain = override(RunConfig(), ["model.segmenter={name: segformer, options: {size: b0}}"])
    folder, model = RunFolder(tmp_path / "begun"), build_model(plain.model, num_classes=2).eval()
    began = override(plain, ["model.segmenter.options.weights=/gone/mit-b0"])
    folder.create(began, run_facts(model, classes=["background", "polyp"], data=make_data()))
    folder.save_weights(model)
    image = torch.rand(1, 3, 32, 32)
    assert torch.equal(load_run(folder.path)[0](image).logits[0], model(image).logits[0])
