"""Fully sharded data parallelism (FSDP2) for a frozen backbone, and the synchronization that it requires."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from guidino_cli.distributed import all_gather_object, all_reduce_max_on_cpu
from guidino_cli.engine.devices import autocast
from guidino_cli.errors import ConfigError
from guidino_cli.models.base import Backbone
from guidino_cli.models.composed import GetOrCompute, Model

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

_IDLE, _BUSY = 0, 1
_HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class ShardedBackbone(Backbone):
    """A frozen backbone whose weights are sharded over the processes of a machine by torch's FSDP2, block by block.

    Weights that are mapped from their file are cast on the way, so that besides its share a process never holds more
    than one block of its own in main memory.

    Gathering a block is a collective operation. While one process computes features and another has no image left, or
    has cached features, the other must call `wait`: it takes part until no process computes features any more.

    Args:
        backbone: Frozen; sharded in place.
        device: Device of this process.
        precision: In which features are always computed: "no", "bf16" or "fp16". In the latter two, matrices are sent
            in half precision, as autocast rounds them anyway: half as many bytes, the same features.

    Raises:
        ConfigError: It is not frozen, or there is only one process on this machine.
    """

    def __init__(self, backbone: Backbone, device: torch.device, precision: str = "no") -> None:
        super().__init__()
        if not backbone.is_frozen:
            raise ConfigError(
                f"train.shard_backbone is for a frozen backbone, but this {type(backbone).__name__} has trained "
                "adapters: turn off either them (model.backbone.options.adapters=0) or the setting"
            )
        self.channels, self.level_channels = backbone.channels, backbone.level_channels
        self.stride, self.identity = backbone.stride, backbone.identity
        self._device, self._precision = device, precision
        _shard(backbone, device, _HALVES.get(precision))
        self.sharded = backbone
        self.freeze()

    def forward(self, image: Tensor) -> list[Tensor]:
        """See `Backbone`; every other process must call this too, or `wait`."""
        all_reduce_max_on_cpu(_BUSY)
        return self._features(image)

    def wait(self) -> None:
        """Take part until no process computes features any more; all processes must call this."""
        while all_reduce_max_on_cpu(_IDLE) == _BUSY:
            self._features(torch.zeros(1, 3, self.stride, self.stride, device=self._device))

    def _features(self, image: Tensor) -> list[Tensor]:
        # Not in inference mode: torch reuses its buffers in training steps, where inference tensors are not allowed.
        with torch.inference_mode(False), torch.no_grad(), autocast(self._device, self._precision):
            features: list[Tensor] = self.sharded(image)
        # torch records the order of blocks for a backward pass, and clears it only there: the list would grow forever.
        if reset := getattr(self.sharded, "reset_iter_state", None):  # not in torch 2.8
            reset()
        return features


def synchronize_features(backbone: Backbone | None, get_or_compute: GetOrCompute) -> GetOrCompute:
    """Wrap a cache lookup so that all processes wait until each has its features, cached or computed."""
    if not isinstance(backbone, ShardedBackbone):
        return get_or_compute

    def synchronized(compute: Callable[[], list[Tensor]]) -> list[Tensor]:
        features = get_or_compute(compute)
        backbone.wait()
        return features

    return synchronized


def wait_for_sharded_backbone(backbone: Backbone | None) -> None:
    """Wait after work that differs in amount between processes; does nothing without sharding."""
    if isinstance(backbone, ShardedBackbone):
        backbone.wait()


@contextmanager
def hidden_from_accelerate(model: Model) -> Iterator[None]:
    """Hide a sharded backbone from accelerate and DDP: they move and broadcast whole weights, and refuse shards."""
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
    """Ranks on each machine, given the machine of each rank.

    Raises:
        ConfigError: A machine has only one rank.
    """
    groups = [[rank for rank, other in enumerate(machines) if other == name] for name in dict.fromkeys(machines)]
    for group in groups:
        if len(group) == 1:
            raise too_few_processes_error(f"one process on {machines[group[0]]}")
    return groups


def too_few_processes_error(found: str) -> ConfigError:
    """Error for a process with none to share a backbone with."""
    return ConfigError(
        f"train.shard_backbone splits the backbone over the processes of a machine, but there is {found}: "
        "add --devices N, or leave it out"
    )


def _device_mesh(device: torch.device) -> DeviceMesh:
    """Mesh of the processes on this machine: gathering blocks within it is fast, and frozen copies stay equal."""
    from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

    groups = group_ranks_by_machine(all_gather_object(platform.node()))
    if len(groups) == 1:
        return init_device_mesh(device.type, (len(groups[0]),))
    own, _ = torch.distributed.new_subgroups_by_enumeration(groups)
    return DeviceMesh.from_group(own, device.type)


def _shard(backbone: Backbone, device: torch.device, dtype: torch.dtype | None) -> None:
    """Shard block by block, so that no device or process holds the whole backbone; matrices are sent in `dtype`."""
    # Importing it takes more than a second.
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    mesh, kept = _device_mesh(device), set[nn.Parameter]()
    policy = MixedPrecisionPolicy(param_dtype=dtype, cast_forward_inputs=False)
    for block in _blocks(backbone):
        _cast(block, backbone.pending_dtype)
        # Such as the scale of a normalization: small, so every process keeps all of it, not the file that it is in.
        own = set() if dtype is None else _all_but_matrices(block)
        for parameter in own:
            parameter.data = parameter.data.to(device, copy=True)
        fully_shard(block, mesh=mesh, reshard_after_forward=True, mp_policy=policy, ignored_params=own)
        kept |= own
    _cast(backbone, backbone.pending_dtype)
    backbone.pending_dtype = None
    # The rest. By default torch would keep it gathered, in some processes longer than in others.
    fully_shard(backbone, mesh=mesh, reshard_after_forward=True, ignored_params=kept)


def _cast(module: nn.Module, dtype: torch.dtype | None) -> None:
    """Cast parameters that are in another precision; None leaves all as they are."""
    for parameter in module.parameters():
        if dtype is not None and parameter.dtype != dtype:
            parameter.data = parameter.data.to(dtype)


def _all_but_matrices(block: nn.Module) -> set[nn.Parameter]:
    """Parameters that autocast leaves in full precision; it rounds the weights of matrix products and convolutions."""
    convolutions = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    modules = [module for module in block.modules() if isinstance(module, (nn.Linear, *convolutions))]
    matrices = {id(module.weight) for module in modules}
    return {parameter for parameter in block.parameters() if id(parameter) not in matrices}


def _blocks(network: nn.Module) -> Iterator[nn.Module]:
    """Blocks of a ViT or stages of a ConvNeXt: the items of the outermost module lists."""
    for child in network.children():
        yield from child if isinstance(child, nn.ModuleList) else _blocks(child)
