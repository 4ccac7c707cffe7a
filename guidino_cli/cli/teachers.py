"""Which backbone the word behind `--distill-from` stands for."""

import json
from pathlib import Path

from guidino_cli.errors import ConfigError


def teacher_setting(teacher: str) -> str:
    """The setting that says the same.

    Args:
        teacher: A backbone's name, such as "embedded"; a folder in Hugging Face layout, whose `config.json` tells the
            architecture; or a hub id, of DINOv2 if it says so and of DINOv3 otherwise.

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
        ways = "give a folder in Hugging Face layout, or name the teacher by --set distill.teacher=..."
        raise ConfigError(f"{path}: does not tell which architecture it is ({error}); {ways}") from error
    return next((family for family in ("dinov3", "dinov2") if kind.startswith(family)), "vit")
