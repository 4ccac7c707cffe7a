"""What is computed in double precision where a device has none."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from guidino_cli.device_transfer import sum_dtype, to_double


@pytest.mark.parametrize(("device", "dtype"), [("mps", "float32"), ("cuda:1", "float64"), ("cpu", "float64")])
def test_sums_are_as_precise_as_the_device_allows(device: str, dtype: str) -> None:
    """MPS: "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64"."""
    assert sum_dtype(torch.device(device)) == getattr(torch, dtype)


def test_numbers_are_doubled_exactly() -> None:
    numbers = torch.tensor([1 / 3, 1e-7])
    assert to_double(numbers).dtype == torch.float64
    assert torch.equal(to_double(numbers).float(), numbers)


def test_numbers_on_a_device_without_double_precision_are_doubled_in_main_memory() -> None:
    numbers = torch.tensor([1 / 3, 1e-7])
    on_mps: Any = SimpleNamespace(device=SimpleNamespace(type="mps"), cpu=lambda: numbers)
    assert torch.equal(to_double(on_mps), numbers.double())
