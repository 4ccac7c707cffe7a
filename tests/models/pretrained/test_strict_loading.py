"""Strict loading: values that are not finite are refused with the name of the tensor."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from guidino_cli.errors import WeightsError
from guidino_cli.models.pretrained.feature_checks import max_feature_difference
from guidino_cli.models.pretrained.strict_loading import load_strictly, require_finite


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_tensor_with_one_value_that_is_not_finite_is_named(value: float, dtype: torch.dtype) -> None:
    bad = torch.zeros(3, 2, dtype=dtype)
    bad[2, 1] = value
    with pytest.raises(WeightsError, match=r"w\.pth: 1 of 2 tensors hold NaN or infinite values \(b\.weight\)"):
        require_finite("w.pth", {"a.weight": torch.ones(2), "b.weight": bad})


def test_finite_and_integer_tensors_pass() -> None:
    require_finite("w.pth", {"a": torch.full((2,), 3e38), "steps": torch.tensor(7), "none": torch.zeros(0)})


def test_trained_weights_with_nan_are_not_loaded(tmp_path: Path) -> None:
    layer = nn.Linear(2, 1)
    save_file({"weight": torch.tensor([[1.0, float("nan")]]), "bias": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"NaN or infinite values \(weight\)"):
        load_strictly(layer, tmp_path / "model.safetensors")
    assert bool(torch.isfinite(layer.weight).all())


@pytest.mark.parametrize("found", [[float("nan"), 1.0], [0.0, float("inf")], [0.0]])
def test_features_that_are_not_finite_differ_from_everything(found: list[float]) -> None:
    assert max_feature_difference(found, [0.0, 1.0]) == float("inf")
    assert max_feature_difference([0.0, 1.0], found) == float("inf")
