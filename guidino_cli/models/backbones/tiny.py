"""Backbone `guidino-tiny`, which comes with guidino: the first six blocks of the offline DINOv2, in eight bits."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load
from torch import nn

from guidino_cli.errors import WeightsError
from guidino_cli.models.backbones.torch_dinov2 import TorchDINOv2, dinov2_small_sizes
from guidino_cli.models.backbones.vit import ViT
from guidino_cli.models.pretrained.catalogue import EMBEDDED_LICENCE
from guidino_cli.models.pretrained.files import dequantize_int8
from guidino_cli.models.pretrained.hub import TINY_FILE
from guidino_cli.models.pretrained.strict_loading import load_tensors_strictly

WEIGHTS_FILE: Path = TINY_FILE
NUM_BLOCKS = 6
_SHA256 = "90a267cd3612c48dd9328fc4a45225c76bbec12ce8adbdf3840cd37d142ce707"
_HINT = "pip install --force-reinstall guidino"


def load_tiny(
    *, frozen: bool = False, layers: Sequence[int] | None = None, norm: bool = True, scale: float = 1.0
) -> ViT:
    """A ViT-S/14 of six blocks that needs neither a model hub nor an extra; see `docs/guidino-tiny.md`.

    Args:
        frozen: Build it in plain torch: the same numbers without importing transformers, which PEFT and saving need.
        layers: See `ViT`; 1 to 6.
        norm: See `ViT`.
        scale: See `ViT`.

    Raises:
        WeightsError: The file in the package is missing or not the known one.
    """
    sizes = dinov2_small_sizes(NUM_BLOCKS)
    tensors = dequantize_int8(load(_read_weights_file()))
    if frozen:
        # Random values that the file replaces would take as long as the rest of loading.
        with torch.device("meta"):
            network: nn.Module = TorchDINOv2(sizes)
        tensors.setdefault("embeddings.mask_token", torch.zeros(1, sizes.hidden_size))
    else:
        network = sizes.build_transformers_model()
    load_tensors_strictly(
        network.eval(), tensors, source=WEIGHTS_FILE, may_miss=("embeddings.mask_token",), assign=frozen
    )
    identity = {"weights": "guidino-tiny (blocks 1-6 of DINOv2-S/14 derived, 8 bits)", "sha256": _SHA256}
    return ViT(network, identity={**identity, "licence": EMBEDDED_LICENCE}, layers=layers, norm=norm, scale=scale)


def _read_weights_file() -> bytes:
    """The file, checked: 12 MB are hashed in a hundredth of a second."""
    try:
        content = WEIGHTS_FILE.read_bytes()
    except OSError as error:
        raise WeightsError(f"{WEIGHTS_FILE}: cannot be read ({error.strerror}); {_HINT}") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != _SHA256:
        raise WeightsError(f"{WEIGHTS_FILE}: SHA-256 is {digest[:12]}..., expected {_SHA256[:12]}...; {_HINT}")
    return content
