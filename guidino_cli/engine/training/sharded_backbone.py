"""A frozen backbone in pieces, one in each process of a machine, and how processes stay in step that need it whole."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from accelerate.utils import gather_object
from torch import Tensor, nn

from guidino_cli.distributed import all_reduce_max_on_cpu
from guidino_cli.errors import ConfigError
from guidino_cli.models.base import Backbone
from guidino_cli.models.composed import GetOrCompute, Model

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

_IDLE, _BUSY = 0, 1


class ShardedBackbone(Backbone):
    """A frozen backbone of which each process holds a piece; torch's FSDP2 gathers one block after the other.

    To gather takes all processes. Where one of them needs maps and another has no image left, or has its maps already,
    the other must call `wait`: it takes part until nobody needs maps any more.

    Args:
        backbone: Frozen; it is taken apart.
        device: Of this process.

    Raises:
        ConfigError: It is not frozen, or has no other process to share with.
    """

    def __init__(self, backbone: Backbone, device: torch.device) -> None:
        super().__init__()
        if not backbone.is_frozen:
            raise ConfigError(
                f"train.shard_backbone is for a frozen backbone, but adapters learn in this {type(backbone).__name__}: "
                "leave them out (model.backbone.options.adapters=0), or the setting"
            )
        self.channels, self.level_channels = backbone.channels, backbone.level_channels
        self.stride, self.identity = backbone.stride, backbone.identity
        self._device = device
        _take_apart(backbone, _mesh(device))
        self.pieces = backbone
        self.freeze()

    def forward(self, image: Tensor) -> list[Tensor]:
        """See `Backbone`; every other process must come here too, or to `wait`."""
        all_reduce_max_on_cpu(_BUSY)
        return self._maps(image)

    def wait(self) -> None:
        """Take part until no process needs maps any more; all must come here."""
        while all_reduce_max_on_cpu(_IDLE) == _BUSY:
            self._maps(torch.zeros(1, 3, self.stride, self.stride, device=self._device))

    def _maps(self, image: Tensor) -> list[Tensor]:
        # Not in inference mode: what torch gathers into is used again in training steps, where such tensors cannot be.
        with torch.inference_mode(False), torch.no_grad():
            maps: list[Tensor] = self.pieces(image)
        # torch notes the order of blocks for a backward pass, and forgets it there only: a list without end.
        if forget := getattr(self.pieces, "reset_iter_state", None):  # not in torch 2.8
            forget()
        return maps


def synchronize_features(backbone: Backbone | None, recall: GetOrCompute) -> GetOrCompute:
    """The same maps; no process goes on before all have theirs, though some keep them and others compute."""
    if not isinstance(backbone, ShardedBackbone):
        return recall

    def recalled(compute: Callable[[], list[Tensor]]) -> list[Tensor]:
        maps = recall(compute)
        backbone.wait()
        return maps

    return recalled


def wait_for_sharded_backbone(backbone: Backbone | None) -> None:
    """Behind work of which processes have different amounts."""
    if isinstance(backbone, ShardedBackbone):
        backbone.wait()


@contextmanager
def hidden_from_accelerate(model: Model) -> Iterator[None]:
    """Hide a sharded backbone from accelerate and DDP: they move and send whole weights, and refuse pieces."""
    backbone = model.backbone
    if not isinstance(backbone, ShardedBackbone):
        yield
        return
    model.backbone = None
    try:
        yield
    finally:
        model.backbone = backbone


def group_ranks_by_machine(machines: Sequence[str]) -> list[list[int]]:
    """The ranks on each machine, given the machine of each rank.

    Raises:
        ConfigError: One of them is alone.
    """
    groups = [[rank for rank, other in enumerate(machines) if other == name] for name in dict.fromkeys(machines)]
    for group in groups:
        if len(group) == 1:
            raise too_few_processes_error(f"one process on {machines[group[0]]}")
    return groups


def too_few_processes_error(found: str) -> ConfigError:
    """What is said to a process that has none to share with."""
    return ConfigError(
        f"train.shard_backbone splits the backbone over the processes of a machine, but there is {found}: "
        "add --devices N, or leave it out"
    )


def _mesh(device: torch.device) -> DeviceMesh:
    """The processes of this machine: what a block is gathered over should be fast, and frozen copies stay equal."""
    from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

    groups = group_ranks_by_machine(gather_object([platform.node()]))
    if len(groups) == 1:
        return init_device_mesh(device.type, (len(groups[0]),))
    own, _ = torch.distributed.new_subgroups_by_enumeration(groups)
    return DeviceMesh.from_group(own, device.type)


def _take_apart(backbone: Backbone, mesh: DeviceMesh) -> None:
    """Block by block, so that a device never holds the whole."""
    # Its import takes more than a second.
    from torch.distributed.fsdp import fully_shard

    for block in _blocks(backbone):
        fully_shard(block, mesh=mesh, reshard_after_forward=True)
    # What is in no block. torch would keep that gathered by default, in some processes longer than in others.
    fully_shard(backbone, mesh=mesh, reshard_after_forward=True)


def _blocks(network: nn.Module) -> Iterator[nn.Module]:
    """The blocks of a ViT, the stages of a ConvNeXt: what stands in its outermost lists."""
    for child in network.children():
        yield from child if isinstance(child, nn.ModuleList) else _blocks(child)
