"""How a cell's network is named to the commands: a backbone as it is, or the random network of its shape."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guidino_cli.commands.bench.cells import BenchCell
from guidino_cli.engine.features.twins import default_layers, spread_layers, write_random_twin

TWINS_FOLDER = "random-networks"
_SEED = 0


@dataclass(frozen=True)
class CellNetwork:
    """Name and weights of a network, as `--backbone` and `--weights` take them.

    Attributes:
        name: Of the registered backbone.
        weights: Folder, file or hub id; None for its own.
        layers: Blocks that the network itself returns, or whose twin returns them; empty if it has no choice.
        sha256: Of random weights; "" where the command tells.
    """

    name: str
    weights: str | None
    layers: Sequence[int]
    sha256: str = ""

    @property
    def options(self) -> dict[str, Any]:
        """Of `model.backbone`, without layers."""
        return {} if self.weights is None else {"weights": self.weights}


def find_network(cell: BenchCell, out: Path, *, offline: bool) -> CellNetwork:
    """The network of a cell; a random one is written to `out` first.

    Raises:
        ConfigError: A backbone of which no random network can be made.
        WeightsError: The backbone's weights cannot be loaded.
    """
    backbone = cell.backbone
    assert backbone is not None
    options = {} if backbone.weights is None else {"weights": backbone.weights}
    if cell.role == "backbone":
        return CellNetwork(backbone.name, backbone.weights, default_layers(backbone.name, options, offline=offline))
    folder = out / TWINS_FOLDER / backbone.label
    twin = write_random_twin(backbone.name, options, folder, seed=_SEED, offline=offline)
    return CellNetwork(twin.name, str(folder.resolve()), twin.layers, twin.sha256)


def choose_layers(network: CellNetwork, given: Sequence[int] | None, preset: Sequence[int] | None) -> list[int]:
    """Blocks that a decoder reads: the recipe's, else the preset's at the same relative depths of this network."""
    if given is not None:
        return list(given)
    if preset and network.layers:
        return spread_layers(list(preset), network.layers[-1])
    return list(network.layers)
