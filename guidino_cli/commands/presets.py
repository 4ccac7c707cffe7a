"""Show the packaged presets."""

from rich.console import Console
from rich.table import Table

from guidino_cli.config import dump, load_preset, preset_names, presets_folder


def run(name: str | None, *, resolved: bool) -> None:
    """List all presets with what they are, or print one as YAML."""
    if name is None:
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("preset", no_wrap=True)
        table.add_column("what it trains")
        for known in preset_names():
            table.add_row(known, load_preset(known).description)
        Console(highlight=False).print(table)
        return
    config = load_preset(name)
    print(dump(config) if resolved else (presets_folder() / f"{name}.yaml").read_text(encoding="utf-8"), end="")
