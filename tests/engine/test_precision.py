"""Which precision training takes by itself, and that a U-Net learns in bf16 what it learns in float32."""

import pytest
import torch

from guidino_cli.config import ModelSettings, Part
from guidino_cli.engine.precision import in_full, training_precision
from guidino_cli.engine.training.objective import Objective
from guidino_cli.models import build_model


def test_a_cpu_trains_in_full_precision_unless_told_otherwise() -> None:
    assert training_precision("auto", "cpu") == "no"
    assert training_precision("bf16", "cpu") == "bf16"


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
