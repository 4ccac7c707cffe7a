"""Rearranging a network for prediction changes its scores by rounding only."""

import pytest
import torch
from torch import nn

from guidino_cli.config import parse
from guidino_cli.engine.prediction.faster import fold_normalisation, prepare_for_prediction
from guidino_cli.models import build_model


def _shake(network: nn.Module) -> None:
    """Statistics and weights as after training, not the ones that would make folding do nothing."""
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
            nn.init.normal_(module.weight, 1, 0.2)
            nn.init.normal_(module.bias, 0, 0.2)


@pytest.mark.parametrize("name", ["unet", "nnwnet", "nnunet"])
@torch.no_grad()
def test_scores_stay_but_for_rounding(name: str) -> None:
    settings = {"model": {"segmenter": {"name": name, "options": {"width": 8} if name != "nnunet" else {}}}}
    model = build_model(parse(settings).model, num_classes=3).eval()
    _shake(model)
    image = torch.rand(2, 3, 64, 64)
    before = model(image).logits[0]
    after = prepare_for_prediction(model)(image).logits[0]
    assert (after - before).abs().max() < 1e-4 * before.abs().max()


@torch.no_grad()
def test_a_folded_block_has_no_normalisation_left_and_the_same_result() -> None:
    """Weight 2 on ones, mean 1, variance 4: (2 x - 1) / 2 (but for eps), then times 3, plus 5."""
    block = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.BatchNorm2d(1, eps=0)).eval()
    block[0].weight.fill_(2.0)
    norm = block[1]
    norm.running_mean.fill_(1.0)
    norm.running_var.fill_(4.0)
    norm.weight.fill_(3.0)
    norm.bias.fill_(5.0)
    assert fold_normalisation(block) == 1
    assert isinstance(block[1], nn.Identity)
    torch.testing.assert_close(block(torch.full((1, 1, 1, 1), 7.0)), torch.full((1, 1, 1, 1), 24.5))
