"""`guidino export --monai-bundle`: a run as a MONAI bundle, a folder which runs without guidino."""

import json
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from guidino_cli import __version__
from guidino_cli.commands.card_facts import collect_facts
from guidino_cli.commands.card_text import CardOptions, write_card
from guidino_cli.commands.example import examples_folder
from guidino_cli.commands.export import (
    accepted_difference,
    describe_difference,
    describe_export,
    describe_licence,
    load_run_on_images,
    require_equal,
)
from guidino_cli.config import RunConfig
from guidino_cli.engine.exporting import export_model, max_abs_difference
from guidino_cli.errors import ConfigError
from guidino_cli.files import atomic_folder, write_text
from guidino_cli.models.composed import Model
from guidino_cli.options.export import ExportOptions
from guidino_cli.outputs import require_output_folder

_SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
_OLDEST_MONAI = "1.6.0"
_SCRIPTS = {"monai_bundle.py": "segment.py", "onnx_predict.py": "steps.py"}
_METADATA = Path("configs") / "metadata.json"
_COMMAND = "python -m monai.bundle run --config_file configs/inference.json --dataset_dir IMAGES --output_dir MASKS"
_USAGE = f"""In the folder of this bundle, with MONAI and its optional package fire installed:

```bash
{_COMMAND}
```

It writes a mask of class indices for every image of 8 bits, of the size of the image and equal to that of
`guidino predict`, on the CPU. guidino is not needed. `models/model.pt2.json` lists the steps around the network, and
`scripts/steps.py` does them."""


def run(run_path: Path, options: ExportOptions) -> None:
    """Write the bundle, if the results of its network equal those of the run.

    Raises:
        ConfigError: A batch, a folder in use, a run on volumes, or results that differ by more than the tolerance.
    """
    out = options.out
    if options.batch not in {None, 1}:
        raise ConfigError(f"--batch {options.batch}: a bundle takes one window at a time; leave it out")
    if out.suffix.lower() in {".pt2", ".onnx"}:
        raise ConfigError(f"-o {out}: a bundle is a folder; leave out --monai-bundle, or give a folder")
    recognised = (out / _METADATA).is_file() if out.is_dir() and any(out.iterdir()) else None
    require_output_folder(out, [run_path], overwrite=options.overwrite, recognised=recognised)
    model, config, facts = load_run_on_images(run_path, offline=options.offline)
    tolerance = accepted_difference(options.tolerance, model)
    side = config.data.image_size
    shape = (1, 3, side, side)
    with atomic_folder(out) as folder:
        for name in ("configs", "models", "scripts", "docs"):
            (folder / name).mkdir()
        program = folder / "models" / "model.pt2"
        difference = max_abs_difference(model, export_model(model, program, side=side, batch=1), image_shape=shape)
        require_equal(out, difference, tolerance)
        # The specification asks for it in addition to the program.
        torch.save(model.state_dict(), folder / "models" / "model.pt")
        about = describe_export(program, run_path, model, config, facts, shape)
        _write_json(folder / "models" / "model.pt2.json", about | {"max_abs_difference": difference})
        _write_json(folder / _METADATA, _metadata(run_path.resolve().name, model, config, facts))
        _write_json(folder / "configs" / "inference.json", _INFERENCE)
        for source, name in _SCRIPTS.items():
            shutil.copyfile(examples_folder() / source, folder / "scripts" / name)
        write_text(folder / "scripts" / "__init__.py", "from .segment import Network, segment_folder\n")
        card_options = CardOptions(run_path.resolve().name, None, "", None, usage=_USAGE)
        card = write_card(collect_facts(run_path, [], holds_backbone=True), card_options)
        write_text(folder / "docs" / "README.md", card)
        write_text(folder / "LICENSE", describe_licence(model) + "\n")
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"MONAI bundle {out} ({size / 1e6:.1f} MB), input image {list(shape)}")
    print(describe_difference(difference, tolerance))
    print(f"use it: cd {out} && {_COMMAND}")
    print(f"licence of the backbone's weights inside: {describe_licence(model)}")


_INFERENCE: dict[str, Any] = {
    "imports": ["$import scripts"],
    "bundle_root": ".",
    "dataset_dir": "images",
    "output_dir": "masks",
    "network_def": "$scripts.Network(@bundle_root + '/models/model.pt2')",
    "run": ["$scripts.segment_folder(@network_def, @bundle_root, @dataset_dir, @output_dir)"],
}


def _metadata(name: str, model: Model, config: RunConfig, facts: dict[str, Any]) -> dict[str, Any]:
    """Content of metadata.json."""
    classes, side = facts["classes"], config.data.image_size
    tensor = {
        "type": "image",
        "modality": "n/a",
        "spatial_shape": [side, side],
        "dtype": "float32",
        "value_range": [0, 1],
    }
    colours = {"0": "red", "1": "green", "2": "blue"}
    image = {**tensor, "format": "magnitude", "num_channels": 3, "is_patch_data": True, "channel_def": colours}
    channels = {str(index): item for index, item in enumerate(classes)}
    pred = {**tensor, "format": "labels", "num_channels": len(classes), "is_patch_data": True, "channel_def": channels}
    return {
        "schema": _SCHEMA,
        "version": "1.0.0",
        "changelog": {"1.0.0": f"written by guidino {__version__}"},
        "monai_version": _installed("monai") or _OLDEST_MONAI,
        "pytorch_version": torch.__version__,
        "numpy_version": version("numpy"),
        "required_packages_version": {"pillow": version("pillow")},
        "name": name,
        "task": f"segmentation of {', '.join(classes[1:])} in images",
        "description": config.description or f"A network trained with guidino for {', '.join(classes[1:])}",
        "authors": "see docs/README.md",
        "copyright": describe_licence(model),
        "intended_use": "Research. Not a medical device; not for diagnosis or treatment.",
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": pred}},
    }


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
