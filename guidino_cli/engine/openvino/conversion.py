"""From a trained model to a network for OpenVINO in full precision."""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from guidino_cli.engine.exporting import free_batch
from guidino_cli.engine.openvino.network import GUIDE, INPUT, LOGITS
from guidino_cli.engine.openvino.packages import import_package
from guidino_cli.errors import ConfigError
from guidino_cli.models.composed import Model


class _Outputs(nn.Module):
    """Logits (B, K, H, W) and, with a guide, its maps (B, G, h, w) as prediction wants them."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        prediction = self.model(image)
        logits = prediction.logits[0].float()
        return (logits,) if prediction.guide is None else (logits, prediction.guide.float())


def interpolate_antialiased(
    maps: Tensor, size: list[int] | None, align_corners: bool, scales: list[float] | None = None
) -> Tensor:
    """torch's bilinear interpolation with antialiasing as two matrix products: OpenVINO has no rule for the original.

    Args:
        maps: (B, C, H, W).
        size: Height and width of the result.
        align_corners: False.
        scales: None.

    Raises:
        ValueError: Corners are aligned, or scales given instead of a size: no model does so.
    """
    if align_corners or size is None or scales is not None:
        raise ValueError("only interpolation to a size, without aligned corners, is expressed")
    rows, columns = (_triangle_weights(maps.shape[axis], size[axis], maps) for axis in (-2, -1))
    return rows @ maps @ columns.transpose(0, 1)


def _triangle_weights(source: int, target: int, like: Tensor) -> Tensor:
    """(target, source): weights of a triangle as wide as two of the larger pixels around each pixel of the result."""
    scale = source / target
    centres = (torch.arange(target, dtype=like.dtype, device=like.device) + 0.5) * scale
    places = torch.arange(source, dtype=like.dtype, device=like.device) + 0.5
    weights = (1 - (places[None] - centres[:, None]).abs() / max(scale, 1.0)).clamp(min=0)
    return weights / weights.sum(dim=1, keepdim=True)


_RULES: dict[Any, Any] = {torch.ops.aten._upsample_bilinear2d_aa.vec: interpolate_antialiased}


def convert_model(model: Model, path: Path, *, side: int) -> None:
    """Write a model as `path` (.xml) and a .bin file beside it, for windows of `side` pixels and any batch size.

    Args:
        model: In evaluation mode, on the CPU.
        path: Of the .xml file.
        side: Height and width of the windows.

    Raises:
        DependencyError: OpenVINO is missing.
        ConfigError: OpenVINO cannot express a part of the model.
    """
    openvino = import_package("openvino")
    try:
        with torch.no_grad(), warnings.catch_warnings():
            # About internals of the exporters; the result is verified afterwards.
            warnings.simplefilter("ignore")
            example, shapes = free_batch(side)
            program = torch.export.export(_Outputs(model).eval(), (example,), dynamic_shapes=shapes, strict=False)
            network: Any = openvino.convert_model(program.run_decompositions(_RULES))
        names = [LOGITS] if model.guide is None else [LOGITS, GUIDE]
        network.input(0).set_names({INPUT})
        for number, name in enumerate(names):
            network.output(number).set_names({name})
        network.reshape({INPUT: [-1, example.shape[1], side, side]})
        openvino.save_model(network, str(path), compress_to_fp16=False)
    except (OSError, MemoryError):
        raise
    except Exception as error:
        reason = " ".join((str(error) or type(error).__name__).split())[-200:]
        raise ConfigError(f"the model cannot be expressed for OpenVINO ({type(error).__name__}: {reason})") from error
