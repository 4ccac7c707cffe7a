"""Loading the model of a run folder; folders, weights and settings that are refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from guidino_cli.config import RunConfig, override
from guidino_cli.engine.runs.folder import RunFolder, run_facts
from guidino_cli.engine.runs.loading import BaseRun, load_run
from guidino_cli.engine.runs.settings import require_same_model
from guidino_cli.errors import ConfigError, DataError, WeightsError
from guidino_cli.models import build_model
from guidino_cli.models.segmenters.registry import SEGMENTER_INFO


def _edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


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


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no config\.yaml, so not a run"):
        load_run(tmp_path)


def test_a_set_of_runs_prepared_data_and_a_missing_folder_are_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "set" / "seed-0").mkdir(parents=True)
    (tmp_path / "set" / "seed-0" / "config.yaml").touch()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cases.json").touch()
    for name, words in (("set", "a set of runs, not one of them"), ("data", "prepared data"), ("x", "no such folder")):
        with pytest.raises(DataError, match=words):
            load_run(tmp_path / name)


def test_a_set_of_runs_is_answered_with_the_command_that_averages_them(tmp_path: Path) -> None:
    for name in ("seed-0", "seed-2", "seed-10"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").touch()
    with pytest.raises(DataError) as error:
        load_run(tmp_path)
    runs = [f"{tmp_path}/{name}" for name in ("seed-0", "seed-2", "seed-10")]
    assert "(seed-0, seed-2, seed-10)" in str(error.value)
    command = f"guidino predict {runs[0]} IMAGES -o MASKS --ensemble {runs[1]} --ensemble {runs[2]}"
    assert str(error.value).endswith(command)


def test_a_run_without_weights_says_how_to_get_them(run: RunFolder) -> None:
    run.weights.unlink()
    with pytest.raises(WeightsError, match=r"no trained weights.*guidino train --resume"):
        load_run(run.path)


@pytest.mark.parametrize("content", [b"", b"not safetensors at all"])
def test_damaged_weights_are_refused_by_name(content: bytes, run: RunFolder) -> None:
    run.weights.write_bytes(content)
    with pytest.raises(WeightsError, match=r"model\.safetensors: weights cannot be read"):
        load_run(run.path)


def test_truncated_weights_are_refused_by_name(run: RunFolder) -> None:
    run.weights.write_bytes(run.weights.read_bytes()[:-100])
    with pytest.raises(WeightsError, match=r"model\.safetensors: weights cannot be read"):
        load_run(run.path)


def test_weights_of_another_network_are_refused_and_not_half_loaded(run: RunFolder, config: RunConfig) -> None:
    other = override(config, ["model.segmenter={name: nnwnet, options: {width: 2}}"])
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
    with pytest.raises(WeightsError, match=r"SHA-256 .*random, seed 0.*use those"):
        load_run(run.path)


def test_a_run_of_another_format_is_refused(run: RunFolder) -> None:
    _edit(run.path / "run.json", format=99)
    with pytest.raises(DataError, match=r"run\.json: written in format 99, this guidino reads format 1"):
        load_run(run.path)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_a_damaged_run_json_is_named(text: str, run: RunFolder) -> None:
    (run.path / "run.json").write_text(text)
    with pytest.raises(DataError, match=r"run\.json"):
        load_run(run.path)


@pytest.mark.parametrize("item", ["train.epochs=3", "data.image_size=32", "seed=1"])
def test_a_training_setting_is_refused_after_training(item: str, run: RunFolder) -> None:
    with pytest.raises(ConfigError, match=r"is trained already; only predict\.\* can be set here"):
        load_run(run.path, overrides=(item,))


def test_a_setting_of_prediction_may_be_overridden(run: RunFolder) -> None:
    assert load_run(run.path, overrides=("predict.mirror=false",))[1].predict.mirror is False


@pytest.mark.parametrize("item", ["model.guide.at=input", "model.guide.residual=true", "model.segmenter.name=nnwnet"])
def test_a_setting_that_would_change_the_model_is_refused(item: str, run: RunFolder) -> None:
    """The weights of a guide at another place would fit, and the masks be wrong."""
    with pytest.raises(ConfigError, match=item.split("=")[0]):
        load_run(run.path, overrides=(item,))


def test_a_run_with_official_weights_takes_a_folder_of_them_but_no_other_size(tmp_path: Path) -> None:
    trained = override(RunConfig(), ["model.backbone={name: dinov3, options: {size: base, layers: [6]}}"])
    moved = override(trained, [f"model.backbone.options.weights={tmp_path}"])
    require_same_model(tmp_path, trained.model, moved.model)
    with pytest.raises(ConfigError, match=r"model\.backbone\.options\.size is what the run was trained with"):
        require_same_model(tmp_path, trained.model, override(trained, ["model.backbone.options.size=large"]).model)


def test_a_run_does_not_need_the_initial_weights_of_its_segmenter(
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


def test_a_backbone_with_another_mean_than_in_training_is_refused(run: RunFolder) -> None:
    facts = json.loads((run.path / "run.json").read_text())
    _edit(run.path / "run.json", backbone={**facts["backbone"], "mean": [0.5, 0.5, 0.5]})
    with pytest.raises(WeightsError, match=r"with mean \[0\.485, .*trained with \[0\.5, 0\.5, 0\.5\]"):
        load_run(run.path)


def test_a_run_records_the_form_of_its_segmenter(run: RunFolder) -> None:
    """The U-Net is as it was in 0.1.0."""
    assert run.facts()["segmenter_revision"] == 1


def test_a_run_of_another_form_of_its_segmenter_is_refused_although_its_weights_fit(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither to predict nor as the start of LoRA; the message says what changed and who can still read it."""
    row = replace(SEGMENTER_INFO["unet"], changes=("it has wings", "and a tail"))
    monkeypatch.setitem(SEGMENTER_INFO, "unet", row)
    _edit(run.path / "run.json", guidino="0.1.0", git="abc123", segmenter_revision=2)
    message = r"run: unet has changed since .*\(and a tail\); train again, .* \(0\.1\.0, commit abc123\)$"
    with pytest.raises(WeightsError, match=message):
        load_run(run.path)
    with pytest.raises(WeightsError, match=message):
        BaseRun(run).fill(build_model(run.config().model, num_classes=2), classes=["background", "polyp"])


def test_a_run_without_a_revision_is_of_the_first_form(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = run.facts()
    del facts["segmenter_revision"]
    (run.path / "run.json").write_text(json.dumps(facts))
    load_run(run.path)
    monkeypatch.setitem(SEGMENTER_INFO, "unet", replace(SEGMENTER_INFO["unet"], changes=("it has wings",)))
    with pytest.raises(WeightsError, match="it has wings"):
        load_run(run.path)


@pytest.mark.parametrize("revision", [7, 0, "two"])
def test_a_run_of_an_unknown_form_is_refused(revision: object, run: RunFolder) -> None:
    _edit(run.path / "run.json", segmenter_revision=revision)
    with pytest.raises(WeightsError, match=f"trained with revision {revision} of unet, this guidino has revision 1"):
        load_run(run.path)
