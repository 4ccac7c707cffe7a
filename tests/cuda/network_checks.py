"""Checks for `worker.py`: forward and backward pass of every segmenter on the pretended device, in bfloat16."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from guidino_cli.config import ComponentSettings, GuideSettings, ModelSettings
from guidino_cli.errors import DependencyError
from guidino_cli.models import SEGMENTERS, build_model
from guidino_cli.models.segmenters.registry import SEGMENTER_INFO
from guidino_cli.registry import find

_BACKBONE = ComponentSettings("random", {"hidden_size": 32, "depth": 4, "heads": 2, "layers": [1, 2, 3, 4]})


def _check(name: str, watch: Any, folder: Path) -> dict[str, Any]:
    info = SEGMENTER_INFO[name]
    kind = find("segmenter", name, SEGMENTERS)
    guide = GuideSettings("ridge", at="logits", per_class=True) if kind.reads_guide else None
    backbone = _BACKBONE if kind.uses_backbone or guide else None
    settings = ModelSettings(ComponentSettings(name, info.small), backbone, guide=guide)
    torch.manual_seed(0)
    try:
        model = build_model(settings, num_classes=2, dims=info.dims)
    except DependencyError as absent:
        return {"absent": str(absent)}
    image = torch.rand(2, 3, *(64, 64) if info.dims == 2 else (32, 32, 32))
    model.train()
    model.to("cuda")
    image = image.to("cuda")
    with watch.recording() as record:
        with torch.autocast("cuda", dtype=torch.bfloat16):
            logits = model(image).logits
        _backward(logits)
    return {
        "devices": sorted({str(level.device) for level in logits}),
        "idle": [name for name, weight in model.named_parameters() if weight.requires_grad and weight.grad is None],
        "not deterministic": _not_deterministic(watch, model, image),
        "step": record.as_json(),
    }


def _backward(logits: list[torch.Tensor]) -> None:
    torch.stack([level.float().square().mean() for level in logits]).sum().backward()


def _not_deterministic(watch: Any, model: Any, image: torch.Tensor) -> list[str]:
    """Operations that would raise with `train.deterministic`, under which torch replaces others.

    On a second size, for which tables of positions are interpolated.
    """
    torch.use_deterministic_algorithms(True)
    try:
        with watch.recording() as record:
            _backward(model(torch.cat([image, image], dim=-1)).logits)
    finally:
        torch.use_deterministic_algorithms(False)
    return sorted(record.not_deterministic)


CHECKS: dict[str, Callable[[Any, Path], Any]] = {name: partial(_check, name) for name in SEGMENTERS}
