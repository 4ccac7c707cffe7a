"""What a reader must know to repeat a run: classes, versions, hashes of the data and the backbone."""

import hashlib
import platform
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

from guidino_cli import __version__
from guidino_cli.data.manifest import FILE_NAME
from guidino_cli.models.backbones.blueprint import blueprint_of
from guidino_cli.models.composed import Model


def run_facts(model: Model, *, classes: list[str], data: Path) -> dict[str, Any]:
    """What a reader must know to repeat a run: classes, versions, hashes of the data and the backbone.

    "parameters" are the trained ones and all; "blueprint" is there where the backbone's own weights are trained.
    """
    from importlib.metadata import version

    manifest = data / FILE_NAME
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    whole = model.backbone is not None and model.backbone.is_whole
    return {
        "guidino": __version__,
        "classes": classes,
        "data": {"cases": str(manifest), "sha256": hashlib.sha256(manifest.read_bytes()).hexdigest()},
        "backbone": None if model.backbone is None else model.backbone.identity,
        **({"blueprint": asdict(blueprint_of(model.backbone))} if whole and model.backbone is not None else {}),
        "parameters": [sum(size for size, trained in sizes if trained), sum(size for size, _ in sizes)],
        "git": _git_commit(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in ("torch", "transformers", "accelerate", "peft", "numpy")},
    }


def _git_commit() -> str | None:
    """Commit of the guidino checkout, if it is one, marked when files differ from it."""
    here = Path(__file__).parent
    try:
        wanted = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"]
        return subprocess.run(wanted, capture_output=True, text=True, check=True, timeout=5).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None
