"""The precision of validation and prediction: that of training, unless a setting or the device says otherwise."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from guidino_cli.config import RunConfig, override
from guidino_cli.engine.devices import autocast, resolve_prediction_precision, use_fast_kernels
from guidino_cli.engine.prediction.inference import segment_image
from guidino_cli.engine.prediction.postprocessing import describe_difference
from guidino_cli.engine.prediction.sliding import Window
from guidino_cli.engine.runs.precision import precision_facts, prediction_precision
from guidino_cli.errors import ConfigError
from guidino_cli.models import build_model

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def has_bf16(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Make CPU and GPU have instructions for bf16 or not."""

    def pretend(has: bool) -> None:
        monkeypatch.setattr("guidino_cli.engine.devices.emulates_bf16", lambda: not has)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: has)

    return pretend


@pytest.mark.parametrize("device", [CPU, CUDA], ids=str)
@pytest.mark.parametrize(
    ("wanted", "validated", "has", "used"),
    [
        ("auto", "bf16", True, "bf16"),
        ("auto", "bf16", False, "no"),
        ("auto", "no", True, "no"),
        # Runs of older versions were validated in full precision.
        ("auto", None, True, "no"),
        ("no", "bf16", True, "no"),
        ("bf16", "no", False, "bf16"),
    ],
)
def test_a_run_is_predicted_as_it_was_validated_where_the_device_can(
    wanted: str, validated: str | None, has: bool, used: str, device: torch.device, has_bf16: Callable[[bool], None]
) -> None:
    has_bf16(has)
    assert resolve_prediction_precision(wanted, validated=validated, device=device) == used


def test_fp16_is_for_gpus(has_bf16: Callable[[bool], None]) -> None:
    has_bf16(True)
    assert resolve_prediction_precision("auto", validated="fp16", device=CUDA) == "fp16"
    assert resolve_prediction_precision("auto", validated="fp16", device=CPU) == "no"
    with pytest.raises(
        ConfigError, match=r"predict\.precision is fp16, which needs a CUDA device; use no, bf16 or auto"
    ):
        resolve_prediction_precision("fp16", validated="fp16", device=CPU)


def test_the_record_of_a_run_is_what_prediction_follows(has_bf16: Callable[[bool], None]) -> None:
    has_bf16(True)
    config = override(RunConfig(), ["train.precision=bf16"])
    facts = {"precision": precision_facts(config, device="cpu", used=CPU)}
    assert facts["precision"] == {"training": "bf16", "validation": "bf16"}
    assert prediction_precision(config, facts, CPU) == "bf16"
    assert prediction_precision(config, {}, CPU) == "no"


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_windows_are_computed_in_their_precision_and_added_up_in_float32(precision: str) -> None:
    config = override(RunConfig(), ["model.segmenter={name: unet, options: {width: 4}}", "data.image_size=32"])
    torch.manual_seed(0)
    model = build_model(config.model, num_classes=2).eval()
    seen: set[torch.dtype] = set()
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    image = torch.rand(3, 40, 32)
    probabilities, _ = segment_image(model, image, Window.from_config(config, precision=precision))
    assert seen == {torch.float32 if precision == "no" else torch.bfloat16}
    assert probabilities.dtype == torch.float32
    full, _ = segment_image(model, image, Window.from_config(config))
    torch.testing.assert_close(probabilities, full, atol=0.02, rtol=0)
    assert torch.equal(probabilities, full) == (precision == "no")


def test_a_run_validated_in_bf16_records_it_and_its_masks_do_too(
    guidino: Callable[..., Any], make_data: Callable[..., Path], tmp_path: Path, has_bf16: Callable[[bool], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for name in ("draw_curve", "draw_validation_grid"):
        monkeypatch.setattr(f"guidino_cli.commands.train.{name}", lambda *_, **__: None)
    has_bf16(True)
    preset, data = tmp_path / "p.yaml", make_data()
    preset.write_text(
        "model: {segmenter: {name: unet, options: {width: 4}}}\ndata: {image_size: 32}\n"
        "train: {epochs: 1, batch_size: 2, workers: 0}\npredict: {overlap: 0, mirror: false}\n"
    )
    words = ("-d", data, "--device", "cpu", "--offline")
    for name in ("no", "bf16"):
        outcome = guidino("train", "-p", preset, "-o", tmp_path / name, "--set", f"train.precision={name}", *words)
        assert outcome.code == 0, outcome.stderr
        facts = json.loads((tmp_path / name / "run.json").read_text())
        assert facts["precision"] == {"training": name, "validation": name}
        predicted = guidino("predict", tmp_path / name, data, "-o", tmp_path / f"{name}-masks", "--device", "cpu")
        assert predicted.code == 0, predicted.stderr
        assert (" on cpu in bf16;" in predicted.stderr) == (name == "bf16")
        made = json.loads((tmp_path / f"{name}-masks" / "predictions.json").read_text())["made_with"]
        assert made.get("precision") == (["bf16"] if name == "bf16" else None)
        assert "does not have" not in predicted.stderr
    has_bf16(False)
    predicted = guidino("predict", tmp_path / "bf16", data, "-o", tmp_path / "old-cpu", "--device", "cpu")
    assert predicted.code == 0, predicted.stderr
    lines = [line for line in predicted.stderr.splitlines() if "was validated in bf16" in line]
    assert len(lines) == 1
    assert lines[0].endswith("which this CPU does not have, so it predicts in full precision; masks differ by rounding")
    summary = json.loads((tmp_path / "old-cpu" / "predictions.json").read_text())
    assert summary["runs"][0]["precision"] == {"validation": "bf16", "prediction": "no"}
    assert "precision" not in summary["made_with"]
    chosen = guidino(
        "predict",
        tmp_path / "bf16",
        data,
        "-o",
        tmp_path / "chosen",
        "--device",
        "cpu",
        "--set",
        "predict.precision=no",
    )
    assert "does not have" not in chosen.stderr
    has_bf16(True)
    # Masks of two precisions are not mixed.
    mixing = ("--skip-existing", "--set", "predict.precision=no", "--device", "cpu")
    outcome = guidino("predict", tmp_path / "bf16", data, "-o", tmp_path / "bf16-masks", *mixing)
    assert outcome.code == 2, outcome.stderr
    assert 'its masks were made with precision "bf16", now it is "no"' in outcome.stderr
    fp16 = ("--set", "predict.precision=fp16", "--device", "cpu")
    outcome = guidino("predict", tmp_path / "no", data, "-o", tmp_path / "half", *fp16)
    assert outcome.code == 2
    assert "predict.precision is fp16, which needs a CUDA device" in outcome.stderr


def test_an_older_run_that_is_resumed_is_still_validated_in_full_precision(
    guidino: Callable[..., Any], make_data: Callable[..., Path], tmp_path: Path, has_bf16: Callable[[bool], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for name in ("draw_curve", "draw_validation_grid"):
        monkeypatch.setattr(f"guidino_cli.commands.train.{name}", lambda *_, **__: None)
    has_bf16(True)
    preset, run = tmp_path / "p.yaml", tmp_path / "run"
    preset.write_text(
        "model: {segmenter: {name: unet, options: {width: 4}}}\ndata: {image_size: 32}\n"
        "train: {epochs: 1, batch_size: 2, workers: 0, precision: bf16}\n"
    )
    outcome = guidino("train", "-p", preset, "-d", make_data(), "-o", run, "--device", "cpu", "--offline")
    assert outcome.code == 0, outcome.stderr
    facts = json.loads((run / "run.json").read_text())
    del facts["precision"]
    (run / "run.json").write_text(json.dumps(facts))
    seen: list[str] = []
    monkeypatch.setattr(
        "guidino_cli.engine.prediction.sliding.autocast",
        lambda device, precision: (seen.append(precision), autocast(device, precision))[1],
    )
    outcome = guidino("train", "--resume", "-o", run, "--set", "train.epochs=2", "--device", "cpu", "--offline")
    assert outcome.code == 0, outcome.stderr
    assert set(seen) == {"no"}
    assert "another precision" not in outcome.stderr


def test_rules_chosen_in_one_precision_are_not_for_masks_of_another() -> None:
    full = {"weights": "a", "overlap": 0.5}
    half = {**full, "precision": "bf16"}
    assert describe_difference([full], [full]) == describe_difference([half], [half]) == ""
    assert describe_difference([full], [half]) == 'predict.precision="no", now it is "bf16"'
    assert describe_difference([half], [full]) == 'predict.precision="bf16", now it is "no"'


def test_kernels_are_chosen_for_speed_on_a_gpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[str] = []
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    monkeypatch.setattr(torch, "set_float32_matmul_precision", chosen.append)
    use_fast_kernels(CPU, "no")
    assert (torch.backends.cudnn.benchmark, chosen) == (False, [])
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    use_fast_kernels(CUDA, "bf16")
    assert (torch.backends.cudnn.benchmark, chosen) == (False, [])
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: False)
    use_fast_kernels(CUDA, "bf16")
    assert (torch.backends.cudnn.benchmark, chosen) == (True, [])
    use_fast_kernels(CUDA, "no")
    assert chosen == ["high"]
