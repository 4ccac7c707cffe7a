"""`guidino doctor`: check an installation step by step, so that a crash shows where it happened."""

import importlib
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from guidino_cli import __version__
from guidino_cli.commands.weights import EMBEDDED, locate_source
from guidino_cli.engine.cpu_features import bf16_instruction_sets
from guidino_cli.errors import DependencyError, ResourceError, UserError
from guidino_cli.models.pretrained.catalogue import KNOWN_WEIGHTS
from guidino_cli.models.pretrained.hub import FOLDER_VARIABLE, is_offline
from guidino_cli.processes import usable_cpus
from guidino_cli.progress import log_info

_PACKAGES = ("torch", "transformers", "accelerate", "peft", "numpy", "scipy", "pillow", "nibabel", "safetensors")
_EXTRAS = {
    "embedded": ("onnx",),
    "export": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("openvino", "nncf"),
    "dicom": ("pydicom", "highdicom"),
    "itk": ("SimpleITK",),
    "blosc2": ("blosc2",),
    "monai": ("monai", "einops"),
    "smp": ("segmentation_models_pytorch",),
    "medpy": ("medpy",),
}


def system_facts() -> dict[str, Any]:
    """Versions, processor, memory and threads."""
    return {
        "guidino": __version__,
        "python": f"{platform.python_version()} ({sys.executable})",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": usable_cpus(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        "memory_gb": _memory_gb(),
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def missing_packages() -> list[str]:
    """Names of required packages that are not installed."""
    requirements = [item.split(";")[0] for item in requires("guidino") or [] if "extra ==" not in item]
    names = [item.split(">")[0].split("<")[0].split("=")[0].strip() for item in requirements]
    return [name for name in names if _version(name) is None]


def component_facts() -> dict[str, Any]:
    """Compiled kernel, extras, weights on this machine, and folders that must be writable."""
    from guidino_cli.metrics.compiled import load_kernel

    sources = {**{item.name: item.repository for item in KNOWN_WEIGHTS}, EMBEDDED: EMBEDDED}
    locations = {name: locate_source(source) for name, source in sources.items()}
    return {
        "kernel": load_kernel() is not None,
        "extras": {name: all(find_spec(item) is not None for item in items) for name, items in _EXTRAS.items()},
        "weights": {name: None if location is None else str(location.path) for name, location in locations.items()},
        "offline": is_offline(),
        "places": {name: _folder_facts(path) for name, path in _folders().items()},
    }


def torch_facts() -> dict[str, Any]:
    """Devices, threads and supported precisions; imports torch."""
    import torch

    return {
        "build": torch.__version__,
        "threads": torch.get_num_threads(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "bf16_units": bf16_instruction_sets(),
        "cuda": [_gpu_facts(number) for number in range(torch.cuda.device_count())],
        "mps": torch.backends.mps.is_available(),
    }


def _gpu_facts(number: int) -> dict[str, Any]:
    import torch

    gpu = torch.cuda.get_device_properties(number)
    return {
        "name": gpu.name,
        "memory_gb": round(gpu.total_memory / 1e9, 1),
        "capability": f"{gpu.major}.{gpu.minor}",
        "bf16": gpu.major >= 8,
    }


def _memory_gb() -> float | None:
    """Memory of the machine, or the container's limit if that is lower; None if unknown."""
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


def _folders() -> dict[str, Path]:
    home = Path(os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    folders = {"here": Path.cwd(), "temporary": Path(tempfile.gettempdir()), "weights cache": home.expanduser()}
    own = os.environ.get(FOLDER_VARIABLE)
    return folders | ({FOLDER_VARIABLE: Path(own).expanduser()} if own else {})


def _folder_facts(path: Path) -> dict[str, Any]:
    """Free space of a folder, or of its nearest existing parent, and whether it is writable."""
    existing = next(folder for folder in (path, *path.resolve().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    return {"path": str(path), "writable": os.access(existing, os.W_OK), "free_gb": round(free / 1e9, 1)}


def run(*, as_json: bool, self_test: bool) -> None:
    """Print facts that need no torch, then those of torch, then the result of the self-test.

    Raises:
        DependencyError: A required package is missing.
        ResourceError: The temporary folder cannot be written.
        UserError: The self-test failed; its other exceptions are raised unchanged.
    """
    facts: dict[str, Any] = {"system": system_facts(), **component_facts()}
    if not as_json:
        _print_facts(facts)
    missing = missing_packages()
    if missing:
        _finish(facts, as_json, DependencyError(f"missing: {', '.join(missing)}; pip install {' '.join(missing)}"))
    if not facts["places"]["temporary"]["writable"]:
        folder = facts["places"]["temporary"]["path"]
        _finish(facts, as_json, ResourceError(f"{folder}: cannot be written; point TMPDIR at a folder that can"))
    # Imported here: it takes seconds, and if it fails the lines above show the environment.
    importlib.import_module("torch")

    facts["torch"] = torch_facts()
    if not as_json:
        _print_table(_torch_rows(facts["torch"], facts["system"]))
    if self_test:
        _run_self_test(facts, as_json)
    _finish(facts, as_json, None)


def _run_self_test(facts: dict[str, Any], as_json: bool) -> None:
    from guidino_cli.commands.self_test import self_test

    log_info("self-test: training, prediction and evaluation on synthetic images")
    try:
        seconds = asdict(self_test())
    except UserError as error:
        _finish(facts, as_json, type(error)(f"the self-test failed: {error}"))
    except Exception as error:
        facts["self_test"] = None
        _finish(facts, as_json, error)
    else:
        facts["self_test"] = seconds
        if not as_json:
            _print_table({"self-test": "ok: " + ", ".join(f"{part} {time:.1f} s" for part, time in seconds.items())})


def _finish(facts: Mapping[str, Any], as_json: bool, error: Exception | None) -> None:
    """Print the JSON object or the verdict, and raise the error if there is one."""
    if as_json:
        print(json.dumps({**facts, "error": None if error is None else str(error)}, indent=2, ensure_ascii=False))
    if error is not None:
        raise error
    if not as_json:
        print("guidino works here")


def _print_facts(facts: Mapping[str, Any]) -> None:
    system = facts["system"]
    packages = ", ".join(f"{name} {version or 'MISSING'}" for name, version in system["packages"].items())
    memory = "unknown" if system["memory_gb"] is None else f"{system['memory_gb']} GB"
    weights = [name for name, path in facts["weights"].items() if path]
    extras = ", ".join(f"{name} {'yes' if is_installed else 'no'}" for name, is_installed in facts["extras"].items())
    threads = system["OMP_NUM_THREADS"] or "not set"
    rows = {
        "guidino": system["guidino"],
        "python": system["python"],
        "system": system["system"],
        "processor": f"{system['cores']} usable cores, OMP_NUM_THREADS {threads}, memory {memory}",
        "packages": packages,
        "extras": extras,
        "evaluate": "compiled kernel" if facts["kernel"] else "no compiled kernel: same results, slower distances",
        "weights": ", ".join(weights) or "none on this machine; see guidino weights list",
        "hub": "offline (HF_HUB_OFFLINE)" if facts["offline"] else "may be contacted; --offline prevents it",
    }
    for name, folder in facts["places"].items():
        state = "writable" if folder["writable"] else "NOT WRITABLE"
        rows[name] = f"{state}, {folder['free_gb']} GB free, {folder['path']}"
    _print_table(rows)


def _torch_rows(torch: Mapping[str, Any], system: Mapping[str, Any]) -> dict[str, str]:
    gpus = [
        f"{gpu['name']}, {gpu['memory_gb']} GB, {'bf16' if gpu['bf16'] else 'no bf16: fp16'}" for gpu in torch["cuda"]
    ]
    units = ", ".join(torch["bf16_units"]) or "none: bf16 would be slow"
    rows = {
        "torch": f"{torch['build']}, {torch['threads']} threads, {torch['cpu']}",
        "bf16 on CPU": units,
        "GPU": "; ".join(gpus) or ("MPS" if torch["mps"] else "none: training is slow"),
    }
    if torch["threads"] > system["cores"]:
        rows["threads"] = f"more than the {system['cores']} cores: set OMP_NUM_THREADS={system['cores']}"
    return rows


def _print_table(rows: Mapping[str, str]) -> None:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(width=13, no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, str(value))
    Console(highlight=False).print(table)
