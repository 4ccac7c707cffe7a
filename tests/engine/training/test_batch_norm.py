"""Batch normalisation over several processes: the same weights under the same names, and the same in evaluation."""

from typing import Literal

import pytest
import torch
from torch import nn

from guidino_cli.config import ModelSettings, Part
from guidino_cli.engine.training.batch_norm import is_shared, shared
from guidino_cli.models import build_model


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
def test_statistics_are_shared_where_several_train_on_gpus(
    wanted: Literal["auto", True, False], device: str, processes: int, expected: bool
) -> None:
    assert is_shared(wanted, device=torch.device(device), processes=processes) is expected


def test_sharing_changes_every_batch_normalisation_and_no_weight() -> None:
    segmenter = build_model(ModelSettings(Part("unet", {"width": 4})), num_classes=2).segmenter.eval()
    image = torch.rand(1, 3, 32, 32)
    before, names = segmenter.decode(segmenter.encode(image, []), (32, 32))[0], list(segmenter.state_dict())
    weights = {id(parameter) for parameter in segmenter.parameters()}
    converted = shared(segmenter)
    kinds = [type(module) for module in converted.modules()]
    assert nn.SyncBatchNorm in kinds
    assert nn.BatchNorm2d not in kinds
    assert list(converted.state_dict()) == names
    assert {id(parameter) for parameter in converted.parameters()} == weights
    assert torch.equal(converted.decode(converted.encode(image, []), (32, 32))[0], before)
