"""Export of a trained model to a PyTorch (.pt2) or ONNX file, and the comparison of that file with the model."""

import logging
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guidino_cli.errors import ConfigError, DependencyError
from guidino_cli.models.composed import Model

ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")

Runner = Callable[[Tensor], Sequence[np.ndarray]]


class ExportModule(nn.Module):
    """The exported module: from images to probabilities and, with a guide, guide maps, all in image size.

    Args:
        model: In evaluation mode.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Probabilities (B, K, H, W) and guide (B, G, H, W) in [0, 1] of images (B, 3, H, W) in [0, 1]."""
        prediction = self.model(image)
        probabilities = prediction.logits[0].float().softmax(dim=1)
        if prediction.guide is None:
            return (probabilities,)
        size = (image.shape[-2], image.shape[-1])
        guide = F.interpolate(prediction.guide.float(), size=size, mode="bilinear", align_corners=False)
        return probabilities, guide


def output_names(model: Model) -> list[str]:
    """Names of the outputs of an exported model, in order."""
    return ["probabilities"] if model.guide is None else ["probabilities", "guide"]


def free_batch(side: int) -> tuple[Tensor, Any]:
    """Example (3, 3, side, side) for torch.export, and the shapes that leave its batch size free."""
    return torch.zeros(3, 3, side, side), ({0: torch.export.Dim("batch")},)


def batches_to_compare(batch: int | None) -> tuple[int, ...]:
    """Batch sizes at which an exported file is compared with its model: the only one, or two of all."""
    return (1, 3) if batch is None else (batch,)


def export_model(model: Model, path: Path, *, side: int, batch: int | None) -> Runner:
    """Write a model to a `.pt2` or `.onnx` file, read it back, and return a function that runs the file.

    Args:
        model: In evaluation mode, on the CPU.
        path: Its suffix decides the format.
        side: Height and width of the windows that the file will accept.
        batch: The only number of windows that it will accept; None for any.

    Raises:
        DependencyError: A package for ONNX is missing.
        ConfigError: The format cannot express a part of the model.
    """
    kind = path.suffix.lower()
    if kind == ".onnx":
        require_onnx()
    module = ExportModule(model).eval()
    example, shapes = free_batch(side) if batch is None else (torch.zeros(batch, 3, side, side), None)
    write = _write_onnx if kind == ".onnx" else _write_pt2
    try:
        with torch.no_grad(), warnings.catch_warnings():
            # About internals of the exporters; the result is verified afterwards.
            warnings.simplefilter("ignore")
            logging.getLogger("torch.onnx").setLevel(logging.ERROR)
            write(module, example, shapes, path, output_names(model))
            return _onnx_runner(path) if kind == ".onnx" else _pt2_runner(path)
    except (OSError, MemoryError):
        raise
    except Exception as error:
        reason = " ".join((str(error) or type(error).__name__).split())[:200]
        hint = "; --batch 1 may do, for one window at a time" if batch is None else ""
        raise ConfigError(
            f"the model cannot be expressed as {kind} ({type(error).__name__}: {reason}){hint}"
        ) from error


def require_onnx() -> None:
    """`DependencyError` if a package for ONNX is missing."""
    missing = [name for name in ONNX_PACKAGES if find_spec(name) is None]
    if missing:
        raise DependencyError(f"ONNX needs {', '.join(missing)}; pip install 'guidino[export]', or write a .pt2 file")


@torch.no_grad()
def max_abs_difference(model: Model, runner: Runner, *, image_shape: tuple[int, ...], seed: int = 0) -> float:
    """Largest absolute difference between the outputs of a model and its file, for noise and for smooth images."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(image_shape, generator=generator)
    coarse = torch.rand((*image_shape[:2], 4, 4), generator=generator)
    smooth = F.interpolate(coarse, size=image_shape[-2:], mode="bilinear", align_corners=False)
    differences = []
    for image in (noise, smooth):
        ours, theirs = ExportModule(model).eval()(image), runner(image)
        differences += [float(np.abs(a.numpy() - b).max()) for a, b in zip(ours, theirs, strict=True)]
    # NaN is no match.
    return float("inf") if any(np.isnan(difference) for difference in differences) else max(differences)


def _write_pt2(module: nn.Module, example: Tensor, shapes: Any, path: Path, _: list[str]) -> None:
    torch.export.save(torch.export.export(module, (example,), dynamic_shapes=shapes, strict=False), path)


def _write_onnx(module: nn.Module, example: Tensor, shapes: Any, path: Path, names: list[str]) -> None:
    program = torch.onnx.export(
        module,
        (example,),
        input_names=["image"],
        output_names=names,
        dynamic_shapes=shapes,
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    if program is None:
        raise ValueError("the exporter returned nothing")
    program.save(path, external_data=False)


def _pt2_runner(path: Path) -> Runner:
    module = torch.export.load(path).module()
    return lambda image: [output.numpy() for output in module(image)]


def _onnx_runner(path: Path) -> Runner:
    import onnxruntime

    session: Any = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda image: session.run(None, {"image": image.numpy()})
