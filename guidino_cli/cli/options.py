"""Parsers of option values."""

import json
import math
from pathlib import Path

from guidino_cli.errors import ConfigError


def parse_pair(option: str, text: str, *, between: str, example: str) -> tuple[float, float]:
    """Parse two numbers, such as `40,400`.

    Raises:
        ConfigError: Not two numbers.
    """
    first, _, second = text.partition(between)
    try:
        return float(first), float(second)
    except ValueError as error:
        raise ConfigError(f"{option} {text}: expected two numbers, such as {example}") from error


def parse_grey_window(option: str, text: str) -> tuple[float, float] | None:
    """Parse a window of grey values: its level and width, or None for `auto`.

    Raises:
        ConfigError: Not two numbers, or a width that is not positive.
    """
    if text == "auto":
        return None
    level, width = parse_pair(option, text, between=",", example="40,400 or auto")
    if not (math.isfinite(level) and 0 < width < math.inf):
        raise ConfigError(f"{option} {text}: expected a level and a width above 0, such as 40,400")
    return level, width


def teacher_setting(teacher: str) -> str:
    """The setting that --distill-from stands for.

    Args:
        teacher: Name of a backbone, such as "embedded"; a folder in Hugging Face layout, whose `config.json` names the
            architecture; or a hub id, of DINOv2 if it contains "dinov2" and of DINOv3 otherwise.

    Raises:
        ConfigError: A folder without a readable `config.json`.
    """
    from guidino_cli.models import BACKBONES

    if teacher in BACKBONES:
        return f"distill.teacher={json.dumps({'name': teacher})}"
    return f"distill.teacher={json.dumps({'name': _family(teacher), 'options': {'weights': teacher}})}"


def _family(weights: str) -> str:
    if not Path(weights).exists():
        return "dinov2" if "dinov2" in weights.lower() else "dinov3"
    path = Path(weights) / "config.json"
    try:
        kind = str(json.loads(path.read_text(encoding="utf-8"))["model_type"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        hint = "give a folder in Hugging Face layout, or set the teacher with --set distill.teacher=..."
        raise ConfigError(f"{path}: does not name the architecture ({error}); {hint}") from error
    return next((family for family in ("dinov3", "dinov2") if kind.startswith(family)), "vit")
