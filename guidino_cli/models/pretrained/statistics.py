"""Mean and standard deviation of the images that a pretrained network expects, read from its files or refused."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guidino_cli.errors import WeightsError
from guidino_cli.models.pretrained.config_files import read_json_object

if TYPE_CHECKING:
    from torch import Tensor

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation per channel, for images in [0, 1]."""
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""Of SigLIP and many ViTs: images in [-1, 1]."""
SATELLITE = ((0.430, 0.411, 0.296), (0.213, 0.156, 0.143))
"""Of DINOv3's satellite weights (SAT-493M), as in the README of facebookresearch/dinov3."""
PREPROCESSOR_FILE = "preprocessor_config.json"

# Published from both LVD-1689M (ImageNet's statistics) and SAT-493M, with equal configurations.
_AMBIGUOUS_WIDTHS = (1024, 4096)
_WIDTH_OF_7B = 4096
# Norm of local crops' class tokens: in Meta's ViT-L of SAT-493M, and in both of its 7B models.
_LOCAL_NORM = "local_cls_norm.weight"


def read_statistics(folder: Path, *, source: str, default: Statistics | None) -> Statistics:
    """Statistics of `preprocessor_config.json`, or `default` without this file.

    Raises:
        WeightsError: The file is damaged or states only half, or there is none and no default.
    """
    path = folder / PREPROCESSOR_FILE
    if not path.exists():
        return default if default is not None else _ask(source)
    settings = read_json_object(path)
    factor = _rescale_factor(path, settings)
    if settings.get("do_normalize") is False:
        mean, std = to_statistics(path, [0, 0, 0], [1, 1, 1])
    else:
        found = [settings.get(name) for name in ("image_mean", "image_std")]
        if found == [None, None]:
            return default if default is not None else _ask(source)
        mean, std = to_statistics(path, *found)
    # (255 f x - mean) / std with another factor f than 1/255 is the same with mean and std divided by 255 f.
    return tuple(value / factor for value in mean), tuple(value / factor for value in std)


def read_timm_statistics(path: Path, config: Mapping[str, Any]) -> Statistics | None:
    """Statistics in timm's `config.json`, or None if it has none."""
    settings = config.get("pretrained_cfg", {})
    if not isinstance(settings, dict):
        raise WeightsError(f"{path}: pretrained_cfg is {settings!r:.40}, expected an object; restore the original")
    found = settings.get("mean"), settings.get("std")
    return None if found == (None, None) else to_statistics(path, *found)


def infer_statistics(
    source: str, *, model_type: str, width: int, stored: Mapping[str, Tensor] | None, default: Statistics | None
) -> Statistics | None:
    """Statistics of weights without a file that states them; None if nothing tells which.

    Args:
        source: Path or hub id, whose last part may name the images of pretraining.
        model_type: transformers' name of the architecture.
        width: Width of a token, D.
        stored: Tensors of the file under their names there; None for a folder in Hugging Face layout.
        default: Statistics of the architecture's authors.
    """
    if model_type != "dinov3_vit":
        return default
    name = Path(source).name.lower()
    is_satellite, is_web = "sat493m" in name, "lvd1689m" in name
    if stored is not None and _LOCAL_NORM in stored and width != _WIDTH_OF_7B:
        return None if is_web else SATELLITE
    if is_satellite or is_web:
        return None if is_satellite and is_web else SATELLITE if is_satellite else default
    has_meta_names = stored is not None and "storage_tokens" in stored
    # Meta's ViT-L of LVD-1689M is known by the missing norm; no other naming keeps it.
    is_known = width not in _AMBIGUOUS_WIDTHS or (has_meta_names and width != _WIDTH_OF_7B)
    return default if is_known else None


def require_statistics(source: str, found: Statistics | None) -> Statistics:
    """The statistics, or `WeightsError` that says how to state them."""
    return found if found is not None else _ask(source)


def to_statistics(source: str | Path, mean: Any, std: Any) -> Statistics:
    """Check three finite means and three positive standard deviations.

    Raises:
        WeightsError: Anything else.
    """
    for name, values in (("mean", mean), ("std", std)):
        is_valid = isinstance(values, list | tuple) and len(values) == 3
        if not is_valid or not all(_is_number(value) and (name == "mean" or value > 0) for value in values):
            kind = "finite numbers" if name == "mean" else "positive numbers"
            raise WeightsError(
                f"{source}: image {name} is {values!r:.60}, expected three {kind}, one per channel; restore the "
                "original file, or state them with `guidino weights import ... --mean R,G,B --std R,G,B`"
            )
    return tuple(map(float, mean)), tuple(map(float, std))


def format_statistics(statistics: Statistics) -> str:
    """Such as `mean 0.485 0.456 0.406, std 0.229 0.224 0.225`."""
    mean, std = (" ".join(f"{value:.6g}" for value in values) for values in statistics)
    return f"mean {mean}, std {std}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e6


def _rescale_factor(path: Path, settings: Mapping[str, Any]) -> float:
    """255 f, where f multiplies 8-bit images before normalisation; 1 as usual."""
    if settings.get("do_rescale") is False:
        return 255.0
    factor = settings.get("rescale_factor")
    if factor is None:
        return 1.0
    if not _is_number(factor) or factor <= 0:
        raise WeightsError(f"{path}: rescale_factor is {factor!r:.40}, expected a positive number such as 1/255")
    # The usual decimals of 1/255 must not change the last bit of the statistics.
    return 1.0 if math.isclose(255 * factor, 1.0, rel_tol=1e-6) else 255 * float(factor)


def _ask(source: str) -> Statistics:
    raise WeightsError(
        f"{source}: nothing states the mean and standard deviation of its images, expected {PREPROCESSOR_FILE} beside "
        "the weights; take them from the model's page and write a folder that states them, such as "
        f"`guidino weights import {source} -o FOLDER --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225` (ImageNet), "
        "--mean 0.5,0.5,0.5 --std 0.5,0.5,0.5 (many ViTs) or --mean 0.43,0.411,0.296 --std 0.213,0.156,0.143 (SAT-493M)"
    )
