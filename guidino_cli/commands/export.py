"""`guidino export`: a run as one file that runs without guidino, and a JSON file that describes it."""

import json
from pathlib import Path
from typing import Any

import torch

from guidino_cli import __version__
from guidino_cli.commands.export_recipe import prediction_recipe
from guidino_cli.config import RunConfig
from guidino_cli.engine.exporting import (
    batches_to_compare,
    export_model,
    max_abs_difference,
    output_names,
    require_onnx,
)
from guidino_cli.engine.prediction.sliding import sees_padding
from guidino_cli.engine.runs.loading import load_run
from guidino_cli.errors import ConfigError
from guidino_cli.files import file_sha256, write_atomically, write_text
from guidino_cli.models.composed import Model
from guidino_cli.models.pretrained.catalogue import licence_note
from guidino_cli.options.export import ExportOptions
from guidino_cli.outputs import require_output_file

_FORMATS = {".pt2": "torch.export", ".onnx": "ONNX"}


def accepted_difference(tolerance: float | None, model: Model) -> float:
    """The value of `--tolerance`, or the default for a model.

    A guide near 0 or 1 has few digits left in its logit: the last bit of 0.999996 moves the logit by 0.015.
    """
    if tolerance is not None:
        return tolerance
    return 1e-4 if model.prior is None else 1e-3


def require_equal(out: Path, difference: float, tolerance: float) -> None:
    """`ConfigError` if results differ from the run's by more than the tolerance, or are NaN."""
    if not difference <= tolerance:
        raise ConfigError(
            f"{out}: not written, for its results differ from the run's by {difference:.2g}, more than {tolerance:g}; "
            "--tolerance accepts more"
        )


def describe_difference(difference: float, tolerance: float) -> str:
    """The line about a difference that was accepted."""
    return f"differs from the run by at most {difference:.2g} (allowed {tolerance:g})"


def run(run_path: Path, options: ExportOptions) -> None:
    """Write the file and its JSON, if the results of the file equal those of the run.

    Raises:
        ConfigError: An unknown suffix, an existing file, a run on volumes, or results that differ by more than
            the tolerance.
    """
    out, batch = options.out, options.batch
    facts_path = out.with_name(f"{out.name}.json")
    _require_possible(out, facts_path, overwrite=options.overwrite)
    model, config, facts = load_run_on_images(run_path, offline=options.offline)
    tolerance = accepted_difference(options.tolerance, model)
    side = config.data.image_size
    differences: list[float] = []

    def write(place: Path) -> None:
        runner = export_model(model, place, side=side, batch=batch)
        for size in batches_to_compare(batch):
            differences.append(max_abs_difference(model, runner, image_shape=(size, 3, side, side)))
            require_equal(out, differences[-1], tolerance)

    write_atomically(out, write)
    shape = (batch, 3, side, side)
    description = describe_export(out, run_path, model, config, facts, shape)
    description["max_abs_difference"] = max(differences)
    write_text(facts_path, json.dumps(description, indent=2, ensure_ascii=False) + "\n")
    windows = f"any number of windows of {side}x{side} px" if batch is None else f"input image {list(shape)}"
    print(f"{_FORMATS[out.suffix.lower()]} {out} ({out.stat().st_size / 1e6:.1f} MB), {windows}")
    print(describe_difference(max(differences), tolerance))
    print(f"facts {facts_path}")
    if model.backbone is not None:
        print(f"licence of the backbone's weights inside: {describe_licence(model)}")


def load_run_on_images(run_path: Path, *, offline: bool) -> tuple[Model, RunConfig, dict[str, Any]]:
    """See `load_run`; `ConfigError` for a run on volumes, and for one that sees each image in its own shape."""
    model, config, facts = load_run(run_path, offline=offline)
    if "volumes" in facts:
        raise ConfigError(
            f"{run_path}: was trained on volumes, and an exported file and its recipe are for images; "
            f"use guidino predict {run_path} VOLUMES -o MASKS"
        )
    if not sees_padding(config):
        raise ConfigError(
            f"{run_path}: sees each image in its own shape (data.resize=longer without padding), and an exported file "
            "takes squares: make the run again with data.resize=stretch"
        )
    return model, config, facts


def _require_possible(out: Path, facts_path: Path, *, overwrite: bool) -> None:
    if out.suffix.lower() not in _FORMATS:
        raise ConfigError(f"-o {out}: expected a file that ends in {' or '.join(_FORMATS)}")
    for path in (out, facts_path):
        require_output_file(path, overwrite=overwrite)
    if out.suffix.lower() == ".onnx":
        require_onnx()


def describe_export(
    out: Path, run_path: Path, model: Model, config: RunConfig, facts: dict[str, Any], shape: tuple[int | None, ...]
) -> dict[str, Any]:
    """Facts needed to use the file as guidino does, and to distribute it; the batch size None is free."""
    return {
        "format": 1,
        "kind": _FORMATS[out.suffix.lower()],
        "sha256": file_sha256(out),
        "run": run_path.resolve().name,
        "description": config.description,
        "classes": facts["classes"],
        "input": {
            "name": "image",
            "shape": list(shape),
            "layout": "batch, channel (RGB; a grey image three times), row, column",
            "dtype": "float32",
            "range": [0.0, 1.0],
            "normalisation": "none: mean and standard deviation are applied inside",
            "resize": config.data.resize,
            "window": config.data.image_size,
        },
        "recipe": prediction_recipe(config),
        "outputs": {name: _OUTPUTS[name] for name in output_names(model)},
        "predict": {"overlap": config.predict.overlap, "mirror": config.mirror},
        "backbone": None if model.backbone is None else model.backbone.identity,
        "licence": describe_licence(model),
        "versions": {"guidino": __version__, "torch": torch.__version__},
    }


_OUTPUTS = {
    "probabilities": "(batch, class, row, column) float32, softmax over classes, of a window; see recipe",
    "guide": "(batch, map, row, column) float32 in [0, 1]",
}


def describe_licence(model: Model) -> str:
    if model.backbone is None:
        return "no pretrained backbone inside; the licence of the training data applies"
    return " ".join(licence_note(model.backbone.identity).split())
