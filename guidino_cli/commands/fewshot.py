"""`guidino fewshot`: from a few labelled images to a run, in seconds and without training."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from guidino_cli.commands.fewshot_files import describe_labelled
from guidino_cli.commands.fewshot_inputs import (
    DATA_FOLDER,
    FewShotInputs,
    collect_folders,
    collect_prepared,
)
from guidino_cli.commands.fewshot_looking import Looked, look_at_images, look_at_volumes
from guidino_cli.commands.fewshot_volumes import holds_volumes, volume_config
from guidino_cli.config import RunConfig, load_preset
from guidino_cli.data.manifest import is_prepared, load_manifest
from guidino_cli.engine.devices import pick_device
from guidino_cli.engine.environment import describe_environment, fingerprint_files
from guidino_cli.engine.fewshot.fitting import FewShotFit, fit_few_labels
from guidino_cli.engine.prediction.shapes import aspect_ratios
from guidino_cli.engine.run_folders import require_unlocked_run_folder
from guidino_cli.engine.runs.facts import FACTS_FILE
from guidino_cli.engine.runs.folder import RunFolder, run_facts, with_data_root
from guidino_cli.engine.runs.inputs import NetworkInput
from guidino_cli.errors import ConfigError, DataError, PartialError
from guidino_cli.files import atomic_folder, lines_sha256
from guidino_cli.models import build_model
from guidino_cli.models.composed import Model
from guidino_cli.models.pretrained.hub import EMBEDDED_COMMAND, find_embedded_file
from guidino_cli.options.fewshot import FewShotOptions
from guidino_cli.outputs import require_output_folder
from guidino_cli.progress import join_first, log_info, log_warning, pluralize

_EMBEDDED, _INCLUDED = "embedded", "guidino-tiny"


def run(images: Path, masks: Path | None, options: FewShotOptions) -> None:
    """Fit guide and thresholds to the labelled images and write them as a run.

    Raises:
        ConfigError: Options or settings that do not go together.
        DataError: Labels that cannot be used, or lack a class.
        WeightsError: The backbone's weights cannot be loaded.
        PartialError: The run is written, but without bad labels, as `skip_bad` allows.
    """
    began = time.monotonic()
    config = _settings(options, has_slices=_has_slices(images))
    if is_prepared(images) != (masks is None):
        given = (
            "is prepared and holds its masks: leave MASKS out"
            if masks is not None
            else ("is not prepared: give the folder of its masks too (guidino fewshot IMAGES MASKS -o RUN)")
        )
        raise ConfigError(f"{images}: {given}")
    require_unlocked_run_folder(options.out)
    require_output_folder(
        options.out,
        [path for path in (images, masks, options.unlabelled) if path is not None],
        overwrite=options.overwrite,
        recognised=(options.out / FACTS_FILE).is_file() or options.overwrite is False,
    )
    device = pick_device(options.device)
    with atomic_folder(options.out, hint="choose another -o") as folder:
        inputs = (
            collect_prepared(images, options)
            if masks is None
            else collect_folders(images, masks, options, folder / DATA_FOLDER)
        )
        network_input = NetworkInput.from_manifest(inputs.manifest, config)
        classes = len(inputs.manifest.classes)
        model = build_model(
            config.model, num_classes=classes, **network_input.model_arguments(), offline=options.offline
        )
        model.to(device).eval()
        volumes = network_input.volumes
        looked = (
            look_at_images(model, inputs, config.data)
            if volumes is None
            else look_at_volumes(
                model, inputs, config.data, volumes, reading=volume_config(options), slices=options.slices
            )
        )
        _warn_of_few(inputs, looked)
        try:
            fit = fit_few_labels(model, looked.labelled, looked.unlabelled, areas=looked.areas)
        except ValueError as error:
            raise DataError(
                f"{inputs.source}: a class cannot be told from the rest ({error}); label other {inputs.noun}s"
            ) from error
        root = options.out.resolve() / DATA_FOLDER if masks is not None else inputs.root
        facts = _facts(model, inputs, fit, looked, root) | network_input.to_facts()
        run_folder = RunFolder(folder)
        run_folder.create(with_data_root(config, root), facts)
        run_folder.save_weights(model)
    _print_result(inputs, fit, looked, options.out, seconds=time.monotonic() - began)
    if inputs.problems:
        left_out = pluralize(len(inputs.problems), "label")
        raise PartialError(f"{left_out} left out, the rest is used: {join_first(inputs.problems, '; ')}")


def _has_slices(images: Path) -> bool:
    """Whether the place holds volumes of several slices, unlike pictures that are kept as volumes."""
    if not is_prepared(images):
        return holds_volumes(images)
    manifest = load_manifest(images)
    return manifest.is_volumes and not manifest.is_pictures


def _settings(options: FewShotOptions, *, has_slices: bool) -> RunConfig:
    """The settings of the preset; without a named backbone `guidino-tiny` where those of `embedded` are missing.

    The preset moves the threshold by Otsu's of each image, which supposes that it shows the object. Many slices of a
    volume do not: Dice there was .1 lower with it (benchmarks/results/fewshot.md).
    """
    overrides = list(options.overrides or ())
    if has_slices and options.preset == "fewshot":
        overrides.insert(0, "model.segmenter.options.otsu=0")
    config = load_preset(options.preset, overrides)
    is_named = any(item.startswith("model.backbone") for item in overrides)
    backbone = config.model.backbone
    is_default = options.preset == "fewshot" and not is_named and backbone is not None and backbone.name == _EMBEDDED
    if is_default and find_embedded_file() is None:
        log_info(f"guidino: backbone {_INCLUDED}; {_EMBEDDED} is a little better: {EMBEDDED_COMMAND}")
        config = load_preset(options.preset, [*overrides, f"model.backbone={{name: {_INCLUDED}}}"])
    _require_closed_form(config, options.preset)
    return config


def _require_closed_form(config: RunConfig, label: str) -> None:
    model = config.model
    if model.segmenter.name != "guided-filter" or model.guide is None or model.guide.name != "ridge":
        guide = "no guide" if model.guide is None else f"guide {model.guide.name}"
        raise ConfigError(
            f"{label}: has segmenter {model.segmenter.name} and {guide}, which have no closed form; fewshot needs "
            "segmenter guided-filter and guide ridge, as preset fewshot has"
        )
    if model.lora is not None or model.finetune is not None:
        raise ConfigError(f"{label}: fewshot keeps the backbone as it is; adapt it afterwards: guidino lora-tune RUN")
    if config.data.dims != 2:
        raise ConfigError(
            f"{label}: data.dims is {config.data.dims:g}, but fewshot looks at single slices: set data.dims=2"
        )
    if config.data.resize not in {"stretch", "longer"}:
        raise ConfigError(
            f"{label}: data.resize is {config.data.resize}, but fewshot looks at whole images: set data.resize=stretch "
            "or data.resize=longer"
        )


def _warn_of_few(inputs: FewShotInputs, looked: Looked) -> None:
    if len(inputs.labelled) == 1 and not inputs.manifest.is_volumes:
        log_warning(
            "with one labelled image the result depends on which one it is: Dice on polyps ranged from .2 to .4, with "
            "five from .55 to .65; label 5 (docs/fewshot.md)"
        )
    if not looked.unlabelled:
        log_warning(
            f"no unlabelled {inputs.noun}: thresholds come from the labelled ones alone, which is less reliable; add "
            f"--unlabelled FOLDER with {inputs.noun}s of the kind to segment"
        )


def _facts(model: Model, inputs: FewShotInputs, fit: FewShotFit, looked: Looked, root: Path) -> dict[str, Any]:
    facts = run_facts(model, classes=inputs.manifest.classes, data=inputs.root) | describe_environment()
    facts["data"]["cases"] = str(root / Path(facts["data"]["cases"]).name)
    facts["data"]["files"] = fingerprint_files(inputs.manifest.cases, inputs.root)
    if not inputs.manifest.is_volumes:
        facts["data"] |= aspect_ratios(inputs.labelled)
    names = inputs.manifest.classes[1:]
    facts["fewshot"] = {
        "labels": len(inputs.labelled),
        "alpha": fit.alpha,
        "thresholds": {name: asdict(item) for name, item in zip(names, fit.thresholds, strict=True)},
        "unlabelled": {
            "count": len(looked.sources),
            "names_sha256": lines_sha256(path.name for path in looked.sources),
        },
        "labelled": describe_labelled(inputs.labelled),
        **({"slices": looked.slices} if looked.slices else {}),
    }
    return facts


def _print_result(inputs: FewShotInputs, fit: FewShotFit, looked: Looked, out: Path, *, seconds: float) -> None:
    count, noun = len(inputs.labelled), inputs.noun
    slices = f", {pluralize(len(looked.labelled), 'slice')} of them looked at" if looked.slices else ""
    print(f"{pluralize(count, f'labelled {noun}')}: {join_first([case.id for case in inputs.labelled])}{slices}")
    unit = "voxels" if inputs.manifest.is_volumes else "pixels"
    for name, item in zip(inputs.manifest.classes[1:], fit.thresholds, strict=True):
        made_of = {"by area": item.by_area, "by masks": item.by_masks}
        shown = ", ".join(f"{value:.3f} {source}" for source, value in made_of.items() if value is not None)
        parts = f" ({shown})" if shown else ""
        print(f"{name}: {100 * item.area:.3g} % of the {unit}, threshold {item.threshold:.3f}{parts}")
    print(f"run {out} in {seconds:.0f} s; next: guidino predict {out} {noun.upper()}S -o MASKS")
