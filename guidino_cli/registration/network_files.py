"""The folder of a network that registers: what it takes, its weights, and the PCA of its features."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from guidino_cli.errors import ConfigError, DataError, file_errors
from guidino_cli.files import write_atomically, write_text
from guidino_cli.json_files import read_json_object
from guidino_cli.registration.network import NetworkShape, RegistrationNetwork
from guidino_cli.registration.pca_files import PCA_FILE

_FORMAT = 1
_FACTS, _WEIGHTS, HISTORY_FILE = "network.json", "network.safetensors", "history.jsonl"


@dataclass(frozen=True)
class NetworkFolder:
    """Paths of a network: `network.json network.safetensors history.jsonl`, and `pca.npz` if it has a backbone."""

    path: Path

    @property
    def facts_file(self) -> Path:
        """What the network takes and how it learned."""
        return self.path / _FACTS

    @property
    def weights(self) -> Path:
        """Weights of a finished training."""
        return self.path / _WEIGHTS

    @property
    def pca(self) -> Path:
        """Of the tokens of the training images."""
        return self.path / PCA_FILE

    @property
    def history(self) -> Path:
        """Losses, a row each `guidino_cli.commands.register_train.ROW_STEPS` steps."""
        return self.path / HISTORY_FILE

    def write_facts(self, shape: NetworkShape, settings: dict[str, Any], data: dict[str, Any]) -> None:
        """Write what a training is about, before its first step."""
        facts = {"format": _FORMAT, "shape": asdict(shape), "settings": settings, "data": data}
        write_text(self.facts_file, json.dumps(facts, indent=2) + "\n")

    def read_facts(self) -> "NetworkFacts":
        """Read them.

        Raises:
            ConfigError: This is no folder of a network.
            DataError: The file is damaged, or of another version.
        """
        if not self.facts_file.is_file():
            raise ConfigError(
                f"{self.path}: has no {_FACTS}, so it is no network; `guidino register train DATA -o {self.path}` "
                "makes one"
            )
        hint = "train again with --overwrite"
        content = read_json_object(self.facts_file, hint=hint)
        if content.get("format") != _FORMAT:
            raise DataError(f"{self.facts_file}: has format {content.get('format')}, expected {_FORMAT}; {hint}")
        with file_errors(self.facts_file, "is damaged", hint=hint):
            shape = NetworkShape(**content["shape"])
            return NetworkFacts(shape, dict(content["settings"]), dict(content["data"]))

    def write_weights(self, network: RegistrationNetwork) -> None:
        """Write the weights of a finished training."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
        write_atomically(self.weights, lambda part: part.write_bytes(save(tensors)))

    def load_network(self, shape: NetworkShape, device: torch.device) -> RegistrationNetwork:
        """A trained network.

        Raises:
            ConfigError: Its training has not come to its end.
            DataError: The weights are damaged or of another network.
            DependencyError: MONAI is not installed.
        """
        if not self.weights.is_file():
            raise ConfigError(
                f"{self.path}: its training is not finished; go on with `guidino register train DATA -o {self.path} "
                "--resume`"
            )
        network = RegistrationNetwork(shape)
        with file_errors(self.weights, "is damaged", hint="train again with --overwrite"):
            tensors: dict[str, Tensor] = load(self.weights.read_bytes())
            network.load_state_dict(tensors)
        return network.to(device).eval()


@dataclass(frozen=True)
class NetworkFacts:
    """What a network is.

    Attributes:
        shape: Of input and output.
        settings: Of features and training.
        data: What it learned from.
    """

    shape: NetworkShape
    settings: dict[str, Any]
    data: dict[str, Any]
