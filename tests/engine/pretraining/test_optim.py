"""Learning rates and weight decay of parameter groups."""

import pytest
import torch
from torch import nn
from transformers import Dinov2Config, Dinov2Model, DINOv3ViTConfig, DINOv3ViTModel

from guidino_cli.engine.pretraining.optim import apply_schedules, make_adamw
from guidino_cli.pretrain_config import OptimizationSettings, PretrainConfig, override_pretrain_config
from guidino_cli.ssl.networks import TokenEncoder

_NARROW = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8, "mlp_ratio": 1}


class _Whole(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.student = TokenEncoder(network, mean=(0.5,) * 3, std=(0.2,) * 3)
        self.head = nn.Linear(8, 4)
        self.teacher = nn.Linear(8, 4).requires_grad_(False)


def _factors(network: nn.Module, settings: OptimizationSettings) -> dict[str, float]:
    whole = _Whole(network)
    optimizer = make_adamw(whole, settings)
    names = {id(parameter): name for name, parameter in whole.named_parameters()}
    return {names[id(item)]: group["lr_factor"] for group in optimizer.param_groups for item in group["params"]}


@pytest.mark.parametrize(
    ("network", "block", "norm"),
    [
        (DINOv3ViTModel(DINOv3ViTConfig(**_NARROW)), "model.layer", "norm"),
        (Dinov2Model(Dinov2Config(**_NARROW, image_size=28)), "encoder.layer", "layernorm"),
    ],
)
def test_learning_rates_decrease_towards_the_image(network: nn.Module, block: str, norm: str) -> None:
    factors = _factors(network, OptimizationSettings(layer_decay=0.5, patch_lr=0.1))
    inside = {name.removeprefix("student.network."): value for name, value in factors.items()}
    assert inside["head.weight"] == 1.0
    assert inside[f"{norm}.weight"] == 1.0
    assert {value for name, value in inside.items() if name.startswith(f"{block}.1.")} == {0.5}
    assert {value for name, value in inside.items() if name.startswith(f"{block}.0.")} == {0.25}
    assert inside["embeddings.cls_token"] == 0.125
    patch = {value for name, value in inside.items() if name.startswith("embeddings.patch_embeddings")}
    assert sorted(patch) == pytest.approx([0.0125])


def test_only_the_frozen_teacher_is_not_trained() -> None:
    factors = _factors(DINOv3ViTModel(DINOv3ViTConfig(**_NARROW)), OptimizationSettings())
    assert not any(name.startswith("teacher") for name in factors)
    assert "student.network.embeddings.mask_token" in factors


def test_only_matrices_decay_and_rates_follow_the_schedule() -> None:
    stages = "[{name: a, steps: 10, lr: 0.1, warmup_steps: 2}, {name: b, steps: 10, lr: 0.2, final_lr: 0.0}]"
    overrides = [f"stages={stages}", "train.weight_decay=0.4", "train.final_weight_decay=0.0"]
    config = override_pretrain_config(PretrainConfig(), overrides)
    whole = _Whole(DINOv3ViTModel(DINOv3ViTConfig(**_NARROW)))
    optimizer = make_adamw(whole, config.train)
    rates = {step: apply_schedules(optimizer, config, step=step) for step in (0, 5, 10, 15, 20)}
    assert [rates[step]["lr"] for step in rates] == pytest.approx([0.0, 0.1, 0.2, 0.1, 0.0])
    assert rates[10]["weight_decay"] == pytest.approx(0.2)
    apply_schedules(optimizer, config, step=10)
    for group in optimizer.param_groups:
        assert group["lr"] == pytest.approx(0.2 * group["lr_factor"])
        assert all((item.ndim > 1) or group["weight_decay"] == 0 for item in group["params"])
    decays = {group["weight_decay"] for group in optimizer.param_groups}
    assert sorted(decays) == pytest.approx([0.0, 0.2])
    assert torch.optim.AdamW is type(optimizer)
