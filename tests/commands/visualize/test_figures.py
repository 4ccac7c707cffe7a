"""Colorbar limits of a set of guides, and tokens with a disabled adapter."""

import pytest
import torch

from guidino_cli.commands.visualize.figures import round_outwards
from guidino_cli.config import LoraSettings
from guidino_cli.models.backbones.dino import random_dino
from guidino_cli.models.lora import add_lora, disable_adapter


@pytest.mark.parametrize(
    ("values", "limits"),
    [((0.013, 0.942), (0.01, 0.95)), ((0.4344, 0.5611), (0.434, 0.562)), ((0.0, 1.0), (0.0, 1.0))],
)
def test_limits_are_rounded_outwards(values: tuple[float, float], limits: tuple[float, float]) -> None:
    assert round_outwards(*values) == limits


def test_limits_of_equal_values_differ() -> None:
    low, high = round_outwards(0.5, 0.5)
    assert low < 0.5 < high


def test_a_disabled_adapter_gives_the_pretrained_tokens_and_is_enabled_again() -> None:
    plain, adapted = (random_dino(hidden_size=16, depth=1, heads=2, registers=1) for _ in range(2))
    add_lora(adapted, LoraSettings())
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.1)
                parameter.requires_grad_(False)
    trained = [parameter.requires_grad for parameter in adapted.parameters()]
    assert any(trained)
    adapted.eval()
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before = adapted(image)[-1]
        with disable_adapter(adapted):
            off = adapted(image)[-1]
        after = adapted(image)[-1]
    assert torch.equal(off, plain(image)[-1])
    assert torch.equal(before, after)
    assert not torch.allclose(before, off)
    assert [parameter.requires_grad for parameter in adapted.parameters()] == trained
