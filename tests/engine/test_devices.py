"""The precision that training chooses, and a U-Net in bf16 compared with float32."""

from types import SimpleNamespace

import pytest
import torch

from guidino_cli.config import ComponentSettings, ModelSettings
from guidino_cli.engine import cpu_features
from guidino_cli.engine.devices import (
    bf16_emulation_warning,
    pick_device,
    require_device_in_use,
    resolve_precision,
    to_float32,
)
from guidino_cli.engine.training.loss import SegmentationLoss
from guidino_cli.errors import ConfigError
from guidino_cli.models import build_model


def test_a_cpu_trains_in_full_precision_by_default() -> None:
    assert resolve_precision("auto", "cpu") == "no"
    assert resolve_precision("bf16", "cpu") == "bf16"


@pytest.mark.parametrize(("generation", "precision"), [(7, "fp16"), (8, "bf16"), (9, "bf16")])
def test_a_gpu_trains_in_bf16_only_if_it_supports_it(
    generation: int, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """V100 and T4 are of generation 7: torch imitates bf16 there."""
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(major=generation))
    assert resolve_precision("auto", "cuda") == precision


@pytest.mark.parametrize(("sets", "warned"), [({"avx2"}, True), ({"avx2", "amx_bf16"}, False), (set(), False)])
def test_bf16_on_a_cpu_without_instructions_for_it_is_warned_about(
    sets: set[str], warned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is known of processors whose instruction sets the system does not name."""
    monkeypatch.setattr("guidino_cli.engine.cpu_features.instruction_sets", lambda: sets)
    assert (bf16_emulation_warning("bf16", "cpu") is not None) == warned
    assert bf16_emulation_warning("auto", "cpu") is None


@pytest.mark.parametrize(
    ("machine", "sets", "may_overflow"),
    [
        ("x86_64", {"avx2"}, True),
        ("x86_64", {"avx2", "avx_vnni"}, False),
        ("AMD64", set(), True),
        ("arm64", set(), False),
        ("aarch64", set(), False),
    ],
)
def test_int8_may_overflow_on_x86_unless_vnni_is_known(
    machine: str, sets: set[str], may_overflow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows and macOS do not list the instruction sets; ARM has no kernels whose sums overflow."""
    monkeypatch.setattr(cpu_features, "instruction_sets", lambda: sets)
    monkeypatch.setattr(cpu_features.platform, "machine", lambda: machine)
    assert cpu_features.may_overflow_int8() == may_overflow


def test_a_unet_trained_in_bf16_ends_as_in_float32() -> None:
    torch.manual_seed(0)
    image = torch.rand(2, 3, 32, 32)
    mask = (image.mean(dim=1) > 0.5).long()
    losses = {}
    for precision in ("no", "bf16"):
        torch.manual_seed(0)
        model = build_model(ModelSettings(ComponentSettings("unet", {"width": 4})), num_classes=2).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        objective = SegmentationLoss({"dice": 1, "cross_entropy": 1}, has_guide=False)
        for _ in range(20):
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                prediction = model(image)
            loss = objective(to_float32(prediction), mask)["loss"]
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        losses[precision] = loss.item()
    # Both began at about 1.2.
    assert losses["no"] < 0.9
    assert losses["bf16"] == pytest.approx(losses["no"], rel=0.05)


@pytest.mark.parametrize(("cuda", "mps", "kind"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")])
def test_the_best_device_present_is_taken(monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, kind: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.mps, "is_available", lambda: mps)
    assert pick_device(None).type == kind


@pytest.mark.parametrize("name", ["cuda", "cuda:0"])
def test_the_current_card_may_be_named_with_its_number(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A single process is on "cuda"; "cuda:0" was refused there."""
    monkeypatch.setattr("guidino_cli.engine.devices.pick_device", torch.device)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    require_device_in_use(name, torch.device("cuda"))
    require_device_in_use(name, torch.device("cuda", 0))


def test_another_card_than_the_current_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guidino_cli.engine.devices.pick_device", torch.device)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    with pytest.raises(ConfigError, match="choose a card with CUDA_VISIBLE_DEVICES"):
        require_device_in_use("cuda:1", torch.device("cuda"))
