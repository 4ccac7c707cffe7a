"""The guide that comes with guidino: the first six blocks of the offline DINOv2, in eight bits."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import load
from transformers import Dinov2Config, Dinov2Model

from guidino_cli.errors import WeightsError
from guidino_cli.models.backbones.vit import ViT
from guidino_cli.models.pretrained.catalogue import EMBEDDED_LICENCE
from guidino_cli.models.pretrained.files import dequantize_int8
from guidino_cli.models.pretrained.hub import TINY_FILE
from guidino_cli.models.pretrained.strict_loading import load_tensors_strictly

WEIGHTS_FILE: Path = TINY_FILE
NUM_BLOCKS = 6
_SHA256 = "90a267cd3612c48dd9328fc4a45225c76bbec12ce8adbdf3840cd37d142ce707"
_HOW = "pip install --force-reinstall guidino"


def load_tiny(*, layers: Sequence[int] | None = None, norm: bool = True, scale: float = 1.0) -> ViT:
    """A ViT-S/14 of six blocks that needs neither a model hub nor an extra; see `docs/guidino-tiny.md`.

    Args:
        layers: See `ViT`; 1 to 6.
        norm: See `ViT`.
        scale: See `ViT`.

    Raises:
        WeightsError: The file in the package is missing or not the known one.
    """
    vit = Dinov2Model(dinov2_small_config(NUM_BLOCKS)).eval()
    load_tensors_strictly(
        vit, dequantize_int8(load(_read_weights_file())), source=WEIGHTS_FILE, may_miss=("embeddings.mask_token",)
    )
    identity = {"weights": "guidino-tiny (blocks 1-6 of DINOv2-S/14 derived, 8 bits)", "sha256": _SHA256}
    return ViT(vit, identity={**identity, "licence": EMBEDDED_LICENCE}, layers=layers, norm=norm, scale=scale)


def dinov2_small_config(num_blocks: int) -> Dinov2Config:
    """Configuration of a DINOv2 ViT-S/14 with that many blocks."""
    return Dinov2Config(
        hidden_size=384,
        num_hidden_layers=num_blocks,
        num_attention_heads=6,
        mlp_ratio=4,
        patch_size=14,
        image_size=518,
        layer_norm_eps=1e-6,
    )


def _read_weights_file() -> bytes:
    """The file, checked: 12 MB are hashed in a hundredth of a second."""
    try:
        content = WEIGHTS_FILE.read_bytes()
    except OSError as error:
        raise WeightsError(f"{WEIGHTS_FILE}: cannot be read ({error.strerror}); {_HOW}") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != _SHA256:
        raise WeightsError(f"{WEIGHTS_FILE}: SHA-256 is {digest[:12]}..., expected {_SHA256[:12]}...; {_HOW}")
    return content
