"""`guidino presets`: list the packaged presets, or print one, packaged or of a file."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from guidino_cli.commands.json_output import print_json
from guidino_cli.config import (
    RunConfig,
    dump_config,
    load_preset,
    merge_preset,
    parse_config,
    preset_names,
    presets_folder,
    recipes_folder,
)
from guidino_cli.errors import ConfigError
from guidino_cli.inheritance import MergedPreset
from guidino_cli.pretrain_config import (
    PretrainConfig,
    dump_pretrain_config,
    load_pretrain_preset,
    merge_pretrain_preset,
    parse_pretrain_config,
    pretrain_preset_names,
    pretrain_presets_folder,
)
from guidino_cli.settings import find_preset, list_presets

_NOTES = """\
at: the guide gates the i(nput) or the b(ottleneck), or is added to the
l(ogits); LoRA: its rank, or all: the whole backbone is trained; paper: the row
of Tables 1 to 3 in the GuiDINO paper.
dinov3 is the ViT-S/16, for ct the ViT-B/16."""
_NOTES_OF = {
    "ct": """\
ct: MedDINOv3 on slices of CT, from its authors' weights; or, as its Table 3
has it, from random ones or DINOv3's, reading one block or four (multi).""",
    "demo": "demo takes minutes on a CPU.",
    "own": """\
Your own data: own-unet; or own-gated-unet, and own-plain-unet, which shows if
its guide helps; or nnU-Net's rules: guidino plan DATA.""",
}
_MORE = "Some only: guidino presets kvasir. One as YAML: guidino presets NAME"


SCHEMA = 1
DEFAULT = "default"
"""Origin of a setting that neither a preset nor its bases give."""


def run(name: str | None, *, resolved: bool, origins: bool = False, as_json: bool = False) -> None:
    """List all presets, or those of a data set, with their components, or print one, or a recipe of `bench`, as YAML.

    Args:
        name: Preset, data set or YAML file; None for all.
        resolved: Print every setting, defaults included, instead of the file.
        origins: The same, with the preset after each that it comes from.
        as_json: Print JSON; of one preset with all settings and their origins.

    Raises:
        ConfigError: No such preset, of training or pretraining, or options that contradict each other.
    """
    if as_json and (resolved or origins):
        raise ConfigError(f"--json: holds settings and origins; leave out {'--origins' if origins else '--resolved'}")
    if name in list_presets(recipes_folder()):
        if as_json or resolved or origins:
            raise ConfigError(
                f"{name}: is a recipe of `guidino bench`, which is printed as it is; leave out the options"
            )
        print((recipes_folder() / f"{name}.yaml").read_text(encoding="utf-8"), end="")
        return
    of_data_set = [preset for preset in preset_names() if name is None or preset.split("-")[0] == name]
    if name is None or (of_data_set and name not in preset_names()):
        if origins:
            raise ConfigError("--origins: name one preset, as in `guidino presets own-unet --origins`")
        pretraining = pretrain_preset_names() if name is None else []
        _print_list_as_json(of_data_set, pretraining) if as_json else _list(of_data_set)
        return
    merged, config = _load(name)
    if as_json:
        print_json({"presets": [_row(merged, config, with_settings=True)]}, schema=SCHEMA)
    elif origins:
        print("\n".join(_lines_with_origins(merged, asdict(config))))
    elif resolved:
        print(dump_config(config) if isinstance(config, RunConfig) else dump_pretrain_config(config), end="")
    else:
        folder = presets_folder() if isinstance(config, RunConfig) else pretrain_presets_folder()
        print(find_preset(name, folder, kind="preset").read_text(encoding="utf-8-sig"), end="")


def _load(name: str) -> tuple[MergedPreset, RunConfig | PretrainConfig]:
    """A preset with its bases, of training or, if it is none, of pretraining."""
    if name in pretrain_preset_names() and name not in preset_names():
        merged = merge_pretrain_preset(name)
        return merged, parse_pretrain_config(merged.settings, label=merged.label)
    try:
        merged = merge_preset(name)
        return merged, parse_config(merged.settings, label=merged.label)
    except ConfigError as error:
        # Files do not say what they are for.
        try:
            merged = merge_pretrain_preset(name)
            return merged, parse_pretrain_config(merged.settings, label=merged.label)
        except ConfigError as other:
            is_of_pretraining = _PRETRAINING & {line.split(":")[0] for line in _lines_of(name)}
            raise (other if is_of_pretraining else error) from error


_PRETRAINING = {"student", "stages", "dino", "distill"}


def _lines_of(name: str) -> list[str]:
    path = Path(name)
    return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []


def _lines_with_origins(merged: MergedPreset, settings: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """YAML of all settings; a comment after each says which preset gives it, or that it is the default."""
    for key, value in settings.items():
        place = f"{path}{key}"
        indent = "  " * path.count(".")
        if isinstance(value, dict) and value:
            yield f"{indent}{key}:"
            yield from _lines_with_origins(merged, value, f"{place}.")
        else:
            text = yaml.safe_dump(_plain(value), default_flow_style=True, width=1_000_000, allow_unicode=True)
            text = text.removesuffix("...\n").strip()
            yield f"{indent}{key}: {text}  # {merged.origins.get(place, DEFAULT)}"


def _plain(value: Any) -> Any:
    """The value with tuples as lists, which YAML has."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _print_list_as_json(names: Sequence[str], pretraining: Sequence[str]) -> None:
    rows = []
    for preset in names:
        rows.append(_row(merge_preset(preset), load_preset(preset), with_settings=False))
    for preset in pretraining:
        rows.append(_row(merge_pretrain_preset(preset), load_pretrain_preset(preset), with_settings=False))
    print_json({"presets": rows}, schema=SCHEMA)


def _row(merged: MergedPreset, config: RunConfig | PretrainConfig, *, with_settings: bool) -> dict[str, Any]:
    """A preset for programs: what it trains, and on request every setting and its origin."""
    parts: dict[str, Any]
    if isinstance(config, RunConfig):
        model = config.model
        parts = {
            "command": "train",
            "paper": config.paper,
            "segmenter": model.segmenter.name,
            "guide": None if model.guide is None else model.guide.name,
            "guide_at": None if model.guide is None else model.guide.at,
            "backbone": None if model.backbone is None else model.backbone.name,
            "lora_rank": None if model.lora is None else model.lora.rank,
            "trains_backbone": model.finetune is not None,
            "dims": config.data.dims,
            "image_size_px": config.data.image_size,
            "epochs": config.train.epochs,
        }
    else:
        keys = ("segmenter", "guide", "guide_at", "lora_rank", "dims", "image_size_px", "epochs")
        others = dict.fromkeys(keys)
        parts = {"command": "pretrain", "paper": "", "backbone": config.student.name, "trains_backbone": True, **others}
    settings = _plain(asdict(config)) if with_settings else None
    origins = {path: merged.origins.get(path, DEFAULT) for path in _leaves(settings)} if settings is not None else None
    return {
        "name": merged.names[0],
        "bases": list(merged.names[1:]),
        "description": config.description,
        **parts,
        "settings": settings,
        "origins": origins,
    }


def _leaves(settings: Mapping[str, Any], path: str = "") -> Iterator[str]:
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}"


def _list(names: Sequence[str]) -> None:
    console = Console(highlight=False)
    console.print(_table(names))
    console.print(_NOTES)
    for data_set, note in _NOTES_OF.items():
        if any(name.split("-")[0] == data_set for name in names):
            console.print(note)
    console.print(_MORE)
    console.print(f"For guidino pretrain: {', '.join(pretrain_preset_names())}.")
    console.print(f"For guidino bench: {', '.join(list_presets(recipes_folder()))}.")


def _table(presets: Sequence[str]) -> Table:
    """One row per preset, grouped by data set; guided networks first."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for title in ("preset", "network", "at", "backbone", "LoRA", "paper"):
        table.add_column(title, no_wrap=True)
    for _, names in groupby(presets, key=lambda preset: preset.split("-")[0]):
        rows = [(preset, load_preset(preset)) for preset in names]
        for preset, config in sorted(rows, key=lambda row: (_kind(row[1]), row[0])):
            table.add_row(preset, *_parts(config))
        table.add_row()
    return table


def _kind(config: RunConfig) -> int:
    """Sort key: guided networks, then those with a backbone only, then plain ones."""
    return 0 if config.model.guide is not None else 1 if config.model.backbone is not None else 2


def _parts(config: RunConfig) -> tuple[str, str, str, str, str]:
    model = config.model
    return (
        model.segmenter.name,
        model.guide.at[0] if model.guide is not None else "-",
        model.backbone.name if model.backbone is not None else "-",
        f"r{model.lora.rank}" if model.lora is not None else "all" if model.finetune is not None else "-",
        config.paper or "-",
    )
