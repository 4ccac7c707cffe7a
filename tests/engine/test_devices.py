"""Which precision training takes by itself, and that a U-Net learns in bf16 what it learns in float32."""

from types import SimpleNamespace

import pytest
import torch

from guidino_cli.config import ModelSettings, Part
from guidino_cli.engine.devices import imitated, in_full, training_precision
from guidino_cli.engine.training.objective import Objective
from guidino_cli.models import build_model


def test_a_cpu_trains_in_full_precision_unless_told_otherwise() -> None:
    assert training_precision("auto", "cpu") == "no"
    assert training_precision("bf16", "cpu") == "bf16"


@pytest.mark.parametrize(("generation", "precision"), [(7, "fp16"), (8, "bf16"), (9, "bf16")])
def test_a_gpu_trains_in_bf16_only_if_it_has_units_for_it(
    generation: int, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """V100 and T4 are of generation 7: torch imitates bf16 there."""
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(major=generation))
    assert training_precision("auto", "cuda") == precision


@pytest.mark.parametrize(("sets", "warned"), [({"avx2"}, True), ({"avx2", "amx_bf16"}, False), (set(), False)])
def test_who_wants_bf16_of_a_processor_without_units_for_it_is_warned(
    sets: set[str], warned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is known of processors whose instruction sets the system does not name."""
    monkeypatch.setattr("guidino_cli.engine.processor.instruction_sets", lambda: sets)
    assert (imitated("bf16", "cpu") is not None) == warned
    assert imitated("auto", "cpu") is None


def test_a_unet_trained_in_bf16_learns_what_it_learns_in_float32() -> None:
    torch.manual_seed(0)
    image = torch.rand(2, 3, 32, 32)
    mask = (image.mean(dim=1) > 0.5).long()
    losses = {}
    for precision in ("no", "bf16"):
        torch.manual_seed(0)
        model = build_model(ModelSettings(Part("unet", {"width": 4})), num_classes=2).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        objective = Objective({"dice": 1, "cross_entropy": 1}, has_guide=False)
        for _ in range(20):
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                prediction = model(image)
            loss = objective(in_full(prediction), mask)["loss"]
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        losses[precision] = loss.item()
    # Both began at about 1.2.
    assert losses["no"] < 0.9
    assert losses["bf16"] == pytest.approx(losses["no"], rel=0.05)
