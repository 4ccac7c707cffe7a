"""`guidino presets`: list the packaged presets, or print one."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.table import Table

from guidino_cli.config import RunConfig, dump_config, load_preset, preset_names, presets_folder
from guidino_cli.pretrain_config import (
    dump_pretrain_config,
    load_pretrain_preset,
    pretrain_preset_names,
    pretrain_presets_folder,
)

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


def run(name: str | None, *, resolved: bool) -> None:
    """List all presets, or those of a data set, with their components, or print one as YAML.

    Raises:
        ConfigError: No such preset, of training or pretraining.
    """
    of_data_set = [preset for preset in preset_names() if name is None or preset.split("-")[0] == name]
    if of_data_set and name not in preset_names():
        _list(of_data_set)
    elif name in pretrain_preset_names():
        print(
            _text(pretrain_presets_folder(), name)
            if not resolved
            else dump_pretrain_config(load_pretrain_preset(name)),
            end="",
        )
    else:
        print(dump_config(load_preset(str(name))) if resolved else _text_of_known(str(name)), end="")


def _text_of_known(name: str) -> str:
    load_preset(name)
    return _text(presets_folder(), name)


def _text(folder: Path, name: str) -> str:
    return (folder / f"{name}.yaml").read_text(encoding="utf-8")


def _list(names: Sequence[str]) -> None:
    console = Console(highlight=False)
    console.print(_table(names))
    console.print(_NOTES)
    for data_set, note in _NOTES_OF.items():
        if any(name.split("-")[0] == data_set for name in names):
            console.print(note)
    console.print(_MORE)
    console.print(f"For guidino pretrain: {', '.join(pretrain_preset_names())}.")


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
