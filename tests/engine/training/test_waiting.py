"""A training step reads nothing from the device: on a GPU each read would wait for all work before it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from guidino_cli.engine.training.trainer import Trainer

# `.item()`, `bool(tensor)`, boolean masks: whatever has a result, or a shape, that only the device knows.
_READS = {"_local_scalar_dense", "nonzero", "is_nonzero", "masked_select", "equal", "_unique2", "bincount"}


class _Reads(TorchDispatchMode):
    """Operations that read from the device, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        if name in _READS or _has_boolean_index(name, args):
            self.names.append(name)
        return function(*args, **(kwargs or {}))


def _has_boolean_index(name: str, args: Any) -> bool:
    """How many elements such an index takes must be counted before the result can have a shape."""
    if not name.startswith(("index", "_index_put")) or len(args) < 2 or not isinstance(args[1], list | tuple):
        return False
    return any(isinstance(index, torch.Tensor) and index.dtype == torch.bool for index in args[1])


def test_the_counter_notices_item_and_boolean_masks() -> None:
    x = torch.ones(3)
    with _Reads() as reads:
        x.sum().item()
        x[x > 0]
    assert reads.names == ["_local_scalar_dense", "index"]


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_step_reads_nothing_from_the_device(
    make_trainer: Callable[..., Trainer],
    guided: tuple[str, ...],
    make_data: Callable[..., Path],
    tmp_path: Path,
    optimizer: str,
) -> None:
    """Augmentation, guided forward, all losses, backward, clipping, optimiser and schedule."""
    loss = "train.loss={dice: 1, cross_entropy: 1, boundary: 1, guide: 0.1, guide_mse: 0.1}"
    trainer = make_trainer(make_data(size_hw=(32, 32)), tmp_path / "run", *guided, loss, f"train.optimizer={optimizer}")
    trainer.train_step.train_mode()
    first, second = trainer.loader.iterate(0, start=0)
    # The first step sets up the optimiser's state.
    trainer._train_on_batch(trainer._sync_control(first))
    before = next(trainer.bare_model.segmenter.parameters()).detach().clone()
    with _Reads() as reads:
        trainer._train_on_batch(trainer._sync_control(second))
    assert reads.names == []
    assert not torch.equal(before, next(trainer.bare_model.segmenter.parameters()))
