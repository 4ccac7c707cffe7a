"""Show the packaged presets."""

from itertools import groupby

from rich.console import Console
from rich.table import Table

from guidino_cli.config import RunConfig, dump, load_preset, preset_names, presets_folder

_NOTES = """\
guide: what the guide map gates; LoRA: its rank, or all: the backbone learns
whole; paper: the row of Tables 1 to 3 in the GuiDINO paper. dinov3 is the
ViT-S/16, for ct the ViT-B/16. demo takes minutes on a CPU.
Your own data: own-unet, and own-plain-unet, which shows if its guide helps.
Print one as YAML: guidino presets NAME"""


def run(name: str | None, *, resolved: bool) -> None:
    """List all presets with what they are made of, or print one as YAML."""
    if name is None:
        console = Console(highlight=False)
        console.print(_table())
        console.print(_NOTES)
        return
    config = load_preset(name)
    print(dump(config) if resolved else (presets_folder() / f"{name}.yaml").read_text(encoding="utf-8"), end="")


def _table() -> Table:
    """A row a preset; those for one data set together, the shortest names first."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for title in ("preset", "network", "guide", "backbone", "LoRA", "paper"):
        table.add_column(title, no_wrap=True)
    for _, names in groupby(preset_names(), key=lambda preset: preset.split("-")[0]):
        rows = [(preset, load_preset(preset)) for preset in names]
        for preset, config in sorted(rows, key=lambda row: (_kind(row[1]), row[0])):
            table.add_row(preset, *_parts(config))
        table.add_row()
    return table


def _kind(config: RunConfig) -> int:
    """Guided networks first, then those with a backbone only, then plain ones."""
    return 0 if config.model.guide is not None else 1 if config.model.backbone is not None else 2


def _parts(config: RunConfig) -> tuple[str, str, str, str, str]:
    model = config.model
    return (
        model.segmenter.name,
        model.guide.at if model.guide is not None else "-",
        model.backbone.name if model.backbone is not None else "-",
        f"r{model.lora.rank}" if model.lora is not None else "all" if model.finetune is not None else "-",
        config.paper or "-",
    )
