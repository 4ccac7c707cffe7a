"""What the states of all runs have in common."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from guidino_cli.engine.checkpoints import Place, captured, restored


def test_a_place_comes_back_as_it_was() -> None:
    accelerator = Accelerator(cpu=True)
    state = captured(Place({"loss": torch.tensor(1.5)}), accelerator, version=7)
    assert restored(state, accelerator, Place).sums == {"loss": torch.tensor(1.5)}


@pytest.mark.parametrize(("process", "loss"), [(0, 0.25), (1, 4.0)])
def test_each_process_goes_on_with_its_own_sums(process: int, loss: float) -> None:
    state = captured(Place(), Accelerator(cpu=True), version=7)
    state |= {"processes": 2, "random": 2 * state["random"], "sums": {"loss": torch.tensor([0.25, 4.0])}}
    accelerator: Any = SimpleNamespace(process_index=process, device=torch.device("cpu"))
    assert restored(state, accelerator, Place).sums == {"loss": torch.tensor(loss)}
