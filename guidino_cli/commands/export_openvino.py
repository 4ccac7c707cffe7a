"""`guidino export --openvino`: a run as a folder whose network OpenVINO runs, in full precision or in int8."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from guidino_cli import __version__
from guidino_cli.commands.export import (
    accepted_difference,
    describe_difference,
    describe_licence,
    load_run_on_images,
    require_equal,
)
from guidino_cli.commands.export_int8 import find_calibration, quantize_folder
from guidino_cli.commands.export_options import DEFAULT_MAX_DROP
from guidino_cli.engine.exporting import ExportModule, batches_to_compare, max_abs_difference
from guidino_cli.engine.openvino.conversion import convert_model
from guidino_cli.engine.openvino.folder import NETWORK_FILES, EngineFolder, is_engine_folder
from guidino_cli.engine.openvino.loading import require_one_piece
from guidino_cli.engine.openvino.network import OpenVinoNetwork
from guidino_cli.engine.openvino.packages import package_versions, require_packages
from guidino_cli.engine.prediction.ensemble import weights_hash
from guidino_cli.engine.runs.sharing import write_settings
from guidino_cli.errors import ConfigError
from guidino_cli.files import atomic_folder, write_text
from guidino_cli.models.composed import Model
from guidino_cli.options.export import ExportOptions
from guidino_cli.outputs import require_output_folder


def run(run_path: Path, options: ExportOptions) -> None:
    """Write the folder if its results equal those of the run; in int8, if the Dice of validation cases hardly falls.

    Raises:
        ConfigError: A folder in use, a run on volumes, settings that a compiled network cannot follow, or results that
            differ by more than the tolerance.
        DataError: See `find_calibration`.
        DependencyError: OpenVINO or NNCF is missing.
        GateError: The Dice falls by more than --max-drop.
        UserError: See `load_run`.
    """
    out = options.out
    require_packages("openvino", *(["nncf"] if options.int8 else []))
    require_folder(out, run_path, overwrite=options.overwrite)
    model, config, _ = load_run_on_images(run_path, offline=options.offline)
    tolerance = accepted_difference(options.tolerance, model)
    require_one_piece(run_path, config, run_path.resolve().name)
    calibration = None
    if options.calibrate is not None:
        max_drop = DEFAULT_MAX_DROP if options.max_drop is None else options.max_drop
        calibration = find_calibration(run_path, options.calibrate, max_drop)
    side = config.data.image_size
    with atomic_folder(out) as folder:
        engine = EngineFolder(folder)
        convert_model(model, engine.network, side=side)
        difference = compare(model, engine, side=side)
        require_equal(out, difference, tolerance)
        # What was tuned holds for the same masks only.
        write_settings(run_path, folder, tuned=calibration is None)
        write_text(folder / "LICENSE", describe_licence(model) + "\n")
        about = describe(run_path, model, side)
        facts = {"precision": "f32", "weights": weights_hash(run_path), "max_abs_difference": difference}
        engine.write_facts(about | facts)
        lines = [describe_difference(difference, tolerance)]
        if calibration is not None:
            lines = quantize_folder(engine, about, calibration, out)
    print_folder(out, "full precision" if calibration is None else "int8", side)
    for line in lines:
        print(line)
    print_use(out, model)


def require_folder(out: Path, run_path: Path, *, overwrite: bool) -> None:
    """`ConfigError` unless the folder may be written."""
    if out.suffix.lower() in {".pt2", ".onnx", ".xml"}:
        raise ConfigError(f"-o {out}: --openvino writes a folder; leave out --openvino, or give a folder")
    recognised = is_engine_folder(out) if out.is_dir() and any(out.iterdir()) else None
    require_output_folder(out, [run_path], overwrite=overwrite, recognised=recognised)


def compare(model: Model, engine: EngineFolder, *, side: int) -> float:
    """Largest difference of a probability or guide between a model and the network of a folder."""
    network: Any = OpenVinoNetwork(engine.network, has_guide=model.has_guide)
    runner = as_runner(network)
    return max(
        max_abs_difference(model, runner, image_shape=(size, 3, side, side)) for size in batches_to_compare(None)
    )


def as_runner(network: Any) -> Callable[[torch.Tensor], list[Any]]:
    """A function from images to probabilities and guide, as exported files have it."""
    module = ExportModule(network)
    return lambda image: [output.numpy() for output in module(image)]


def describe(run_path: Path, model: Model, side: int) -> dict[str, Any]:
    """Entries of `engine.json` that do not depend on the precision."""
    return {
        "run": run_path.resolve().name,
        "has_guide": model.has_guide,
        "input": {"shape": [None, 3, side, side], "dtype": "float32", "range": [0.0, 1.0]},
        "backbone": None if model.backbone is None else model.backbone.identity,
        "licence": describe_licence(model),
        "versions": {"guidino": __version__, "torch": torch.__version__, **package_versions("openvino")},
    }


def print_folder(out: Path, precision: str, side: int) -> None:
    """The first line of the result."""
    size = sum((out / name).stat().st_size for name in NETWORK_FILES)
    print(f"OpenVINO, {precision}: {out} ({size / 1e6:.1f} MB), any number of windows of {side}x{side} px")


def print_use(out: Path, model: Model) -> None:
    """How to use the folder, and what it may be used for."""
    print(f"use it as a run: guidino predict {out} IMAGES -o MASKS")
    if model.backbone is not None:
        print(f"licence of the backbone's weights inside: {describe_licence(model)}")
