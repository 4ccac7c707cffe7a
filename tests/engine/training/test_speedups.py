"""Synchronized batch normalization, and speed-ups that change numbers by rounding only."""

from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from guidino_cli.config import ComponentSettings, ModelSettings, TrainSettings
from guidino_cli.engine.training import speedups
from guidino_cli.engine.training.loss import SegmentationLoss
from guidino_cli.engine.training.speedups import (
    apply_speedups,
    compile_segmenter,
    convert_sync_batch_norm,
    is_batch_norm_synced,
    is_channels_last,
    to_channels_last,
)
from guidino_cli.models import build_model
from guidino_cli.models.composed import Model


@pytest.mark.parametrize(
    ("wanted", "device", "processes", "expected"),
    [
        ("auto", "cuda", 2, True),
        ("auto", "cuda", 1, False),
        ("auto", "cpu", 2, False),
        (False, "cuda", 2, False),
        (True, "cuda", 1, True),
    ],
)
def test_batch_norm_is_synced_by_default_for_several_processes_on_gpus(
    wanted: Literal["auto", True, False], device: str, processes: int, expected: bool
) -> None:
    assert is_batch_norm_synced(wanted, device=torch.device(device), processes=processes) is expected


def test_sync_batch_norm_replaces_every_batch_norm_and_no_weight() -> None:
    segmenter = build_model(ModelSettings(ComponentSettings("unet", {"width": 4})), num_classes=2).segmenter.eval()
    image = torch.rand(1, 3, 32, 32)
    before, names = segmenter.decode(segmenter.encode(image, []), (32, 32))[0], list(segmenter.state_dict())
    weights = {id(parameter) for parameter in segmenter.parameters()}
    converted = convert_sync_batch_norm(segmenter)
    kinds = [type(module) for module in converted.modules()]
    assert nn.SyncBatchNorm in kinds
    assert nn.BatchNorm2d not in kinds
    assert list(converted.state_dict()) == names
    assert {id(parameter) for parameter in converted.parameters()} == weights
    assert torch.equal(converted.decode(converted.encode(image, []), (32, 32))[0], before)


CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def _model(name: str) -> Model:
    torch.manual_seed(0)
    return build_model(ModelSettings(ComponentSettings(name, {"width": 4})), num_classes=2).train()


def _gradients(model: Model) -> tuple[float, Tensor]:
    torch.manual_seed(1)
    image, mask = torch.rand(2, 3, 32, 32), (torch.rand(2, 32, 32) > 0.5).long()
    loss = SegmentationLoss({"dice": 1, "cross_entropy": 1}, has_guide=False)(model(image), mask)["loss"]
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def _is_close(one: tuple[float, Tensor], other: tuple[float, Tensor]) -> bool:
    difference = (one[1] - other[1]).norm() / one[1].norm()
    return abs(one[0] - other[0]) < 1e-5 * abs(one[0]) and float(difference) < 1e-3


@pytest.mark.parametrize("name", ["unet", "nnwnet"])
def test_channels_last_changes_loss_and_gradients_by_rounding_only(name: str) -> None:
    plain, arranged = _model(name), _model(name)
    to_channels_last(arranged.segmenter)
    kernels = [m.weight for m in arranged.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)
    assert plain.state_dict().keys() == arranged.state_dict().keys()
    assert _is_close(_gradients(plain), _gradients(arranged))


@pytest.mark.parametrize(
    ("device", "precision", "has_avx512", "expected"),
    [(CPU, "no", True, True), (CPU, "no", False, False), (CUDA, "bf16", False, True), (CUDA, "no", True, False)],
)
def test_channels_last_is_chosen_where_its_kernels_are_fast(
    monkeypatch: pytest.MonkeyPatch, device: torch.device, precision: str, has_avx512: bool, expected: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_supported", lambda: has_avx512)
    assert is_channels_last("auto", device=device, precision=precision) is expected


@pytest.mark.parametrize("wanted", [True, False])
def test_an_explicit_channels_last_setting_wins(wanted: bool) -> None:
    assert is_channels_last(wanted, device=CPU, precision="no") is wanted


@pytest.mark.parametrize("wanted", [True, False])
def test_channels_last_decides_the_memory_format_of_the_weights(wanted: bool) -> None:
    model = _model("unet")
    apply_speedups(model, TrainSettings(channels_last=wanted), device=CPU, precision="no")
    kernel = next(model.segmenter.parameters())
    assert kernel.shape == (4, 3, 3, 3)
    assert kernel.is_contiguous(memory_format=torch.channels_last) is wanted


def test_a_compiled_segmenter_has_the_same_names_loss_and_gradients() -> None:
    plain, compiled = _model("unet"), _model("unet")
    # Traced as for the real compiler, then run as it is: needs no C++ compiler and no minutes.
    compile_segmenter(compiled.segmenter, backend="eager")
    assert plain.state_dict().keys() == compiled.state_dict().keys()
    assert _is_close(_gradients(plain), _gradients(compiled))


def test_a_failed_compilation_is_logged_once_and_training_continues(monkeypatch: pytest.MonkeyPatch) -> None:
    messages: list[str] = []
    monkeypatch.setattr(speedups, "log_info", messages.append)
    plain, compiled = _model("unet"), _model("unet")

    def no_compiler(*_: object) -> None:
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch, "compile", lambda _half, backend: no_compiler)
    compile_segmenter(compiled.segmenter)
    assert _is_close(_gradients(plain), _gradients(compiled))
    _gradients(compiled)
    # One line for each half.
    assert len(messages) == 2
    assert all("no C++ compiler" in line and "continuing without" in line for line in messages)


def test_an_error_after_a_successful_compilation_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    model, calls = _model("unet"), [0]

    def out_of_memory_later(plain: object, backend: str) -> object:
        def half(*arguments: object) -> object:
            calls[0] += 1
            if calls[0] > 2:
                raise torch.OutOfMemoryError("out of memory")
            return plain(*arguments)  # type: ignore[operator]

        return half

    monkeypatch.setattr(torch, "compile", out_of_memory_later)
    compile_segmenter(model.segmenter)
    _gradients(model)
    with pytest.raises(torch.OutOfMemoryError):
        _gradients(model)


def test_validation_is_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda _half, backend: lambda *_: pytest.fail("the compiled half was called"))
    model = _model("unet")
    compile_segmenter(model.segmenter)
    with torch.inference_mode():
        assert model.eval()(torch.rand(1, 3, 32, 32)).logits[0].shape == (1, 2, 32, 32)
