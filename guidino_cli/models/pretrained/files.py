"""Reading weight files (safetensors, PyTorch), diagnosis of broken downloads, and 8-bit row quantisation."""

import json
import re
import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from guidino_cli.errors import WeightsError, file_errors, first_line

_SCALE = ".scale"


def quantize_int8(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Quantise matrices, kernels and tables to int8 with one scale per row; vectors to half precision.

    Rows run along the first axis longer than 1. A row w becomes round(w / s) with s = max |w| / 127, so that the error
    is at most s / 2.
    """
    out: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        axis = next((axis for axis, size in enumerate(tensor.shape) if size > 1), tensor.ndim)
        if axis >= tensor.ndim - 1:
            out[name] = tensor.detach().half().contiguous()
            continue
        rows = tensor.detach().float().flatten(0, axis).flatten(1)
        scale = (rows.abs().amax(dim=1) / 127).clamp(min=torch.finfo(torch.float32).tiny)
        out[name] = (rows / scale[:, None]).round().to(torch.int8).view(tensor.shape)
        out[name + _SCALE] = scale
    return out


def dequantize_int8(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Invert `quantize_int8`; single precision."""
    return {
        name: _dequantize_rows(tensor, tensors[name + _SCALE]) if tensor.dtype == torch.int8 else tensor.float()
        for name, tensor in tensors.items()
        if not name.endswith(_SCALE)
    }


def _dequantize_rows(tensor: Tensor, scale: Tensor) -> Tensor:
    return (tensor.float().view(len(scale), -1) * scale[:, None]).view(tensor.shape)


_RETRY = "download it again"
# Keys under which training checkpoints hold the weights, in order of preference.
_WRAPPERS = ("model", "state_dict", "teacher")
_PREFIXES = ("module.", "backbone.", "model.")
# DINO's own checkpoints hold pretraining heads as well as the backbone; MedDINOv3 is published as one.
_PRETRAINING_HEADS = ("dino_head.", "ibot_head.")


def read_tensors(path: Path, *, strip_prefixes: bool = True) -> dict[str, Tensor]:
    """Tensors of a .safetensors or PyTorch file without wrappers and common prefixes; memory-mapped if possible.

    Args:
        path: The file.
        strip_prefixes: Remove prefixes that all names of a PyTorch file share; shards of a folder keep them.

    Raises:
        WeightsError: Missing, truncated, a Git LFS pointer or web page instead of weights, or more than tensors.
    """
    check_file(path)
    if _is_safetensors(path):
        with file_errors(path, "damaged", error=WeightsError, hint=_RETRY):
            return load_file(path)
    return _unwrap(path, _load_pickle(path), strip_prefixes=strip_prefixes)


def read_shards(files: Sequence[Path]) -> dict[str, Tensor]:
    """Tensors of the weight files of a folder in Hugging Face layout, under the names that they have there.

    Raises:
        WeightsError: See `read_tensors`; or a shard is missing, or two files hold tensors of one name.
    """
    tensors: dict[str, Tensor] = {}
    for file in files:
        _require_all_shards(file, files)
        found = read_tensors(file, strip_prefixes=False)
        twice = sorted(found.keys() & tensors.keys())
        if twice:
            raise WeightsError(f"{file}: {twice[0]} is in another file of the folder too; remove one of them")
        tensors |= found
    return tensors


def _require_all_shards(file: Path, files: Sequence[Path]) -> None:
    match = re.fullmatch(r"(.+-)\d{5}(-of-(\d{5})\.\w+)", file.name)
    if match:
        found = sum(other.name.startswith(match[1]) and other.name.endswith(match[2]) for other in files)
        if found != int(match[3]):
            raise WeightsError(f"{file.parent}: {found} of {int(match[3])} weight files found; {_RETRY}")


def check_file(path: Path) -> None:
    """Refuse a file that is not a weight file, or truncated.

    Raises:
        WeightsError: See `read_tensors`.
    """
    with file_errors(path, "damaged", error=WeightsError, hint=_RETRY):
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(512)
        if _is_safetensors(path):
            _refuse_truncated_safetensors(path, head, size)
            return
        _refuse_text(path, head, size)
        if head.startswith(b"PK"):
            if not zipfile.is_zipfile(path):
                raise WeightsError(f"{path}: truncated PyTorch file ({size} bytes, its end is missing); {_RETRY}")
        elif not head.startswith(b"\x80"):
            raise WeightsError(f"{path}: neither safetensors nor a PyTorch file (starts with {head[:8]!r}); {_RETRY}")


def _refuse_text(path: Path, head: bytes, size: int) -> None:
    text = head.lstrip().lower()
    if size == 0:
        raise WeightsError(f"{path}: empty file; {_RETRY}")
    if text.startswith(b"version https://git-lfs"):
        raise WeightsError(f"{path}: a Git LFS pointer instead of the weights; run `git lfs pull` in its folder")
    if text.startswith((b"<?xml", b"<error")):
        raise WeightsError(
            f"{path}: an error message of the download server (XML) instead of the weights: the signed link "
            "has expired; request a new one from Meta"
        )
    if text.startswith((b"<!doctype", b"<html")):
        raise WeightsError(
            f"{path}: a web page (HTML) instead of the weights: the link needs a login or has expired; {_RETRY}"
        )
    if text.startswith((b"{", b"[")):
        raise WeightsError(f"{path}: text (JSON) instead of the weights; {_RETRY}")


def _is_safetensors(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(9)
    return len(head) == 9 and head[8:] == b"{" and struct.unpack("<Q", head[:8])[0] < 100_000_000


def _refuse_truncated_safetensors(path: Path, head: bytes, size: int) -> None:
    length = struct.unpack("<Q", head[:8])[0]
    expected = 8 + length
    if size >= expected:
        with path.open("rb") as file, file_errors(path, "damaged safetensors header", error=WeightsError, hint=_RETRY):
            file.seek(8)
            table: dict[str, Any] = json.loads(file.read(length))
            ends = [int(item["data_offsets"][1]) for name, item in table.items() if name != "__metadata__"]
        expected += max(ends, default=0)
    if size < expected:
        raise WeightsError(f"{path}: truncated ({size} bytes, expected {expected}); {_RETRY}")


def _load_pickle(path: Path) -> Any:
    """Load tensors and plain containers only: any other pickle could run code."""
    try:
        with path.open("rb") as file:
            new_format = file.read(2) == b"PK"
        return torch.load(path, map_location="cpu", weights_only=True, mmap=new_format)
    except MemoryError:
        raise
    except Exception as error:
        reason = first_line(error)
        if "weights_only" in str(error) or "Unsupported" in str(error):
            raise WeightsError(
                f"{path}: contains more than tensors, which could run code, so it is not opened ({reason}); "
                "provide a file with weights alone"
            ) from error
        raise WeightsError(f"{path}: damaged PyTorch file ({reason}); {_RETRY}") from error


def _unwrap(path: Path, content: Any, *, strip_prefixes: bool) -> dict[str, Tensor]:
    while isinstance(content, dict):
        inner = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), dict)), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, dict) or not content:
        raise WeightsError(f"{path}: contains a {type(content).__name__}, expected named tensors")
    others = [str(key) for key, value in content.items() if not isinstance(value, Tensor) or not isinstance(key, str)]
    if others:
        raise WeightsError(f"{path}: expected tensors only, found others ({', '.join(others[:3])})")
    if not strip_prefixes:
        return content
    content = _drop_pretraining_heads(content)
    for prefix in _PREFIXES:
        if all(key.startswith(prefix) for key in content):
            content = {key.removeprefix(prefix): value for key, value in content.items()}
    return content


def _drop_pretraining_heads(content: dict[str, Tensor]) -> dict[str, Tensor]:
    """Keep only the backbone of a DINO pretraining checkpoint; other content is left unchanged."""
    backbone = {key: value for key, value in content.items() if key.startswith("backbone.")}
    others = [key for key in content if key not in backbone]
    return backbone if backbone and all(key.startswith(_PRETRAINING_HEADS) for key in others) else content
