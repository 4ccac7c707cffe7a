"""Which weights are known, and where on this machine they are."""

from rich.console import Console
from rich.table import Table

from guidino_cli.commands.weights.sources import EMBEDDED, TINY, WAYS_OUT, gate, place_of, source_of, way_to
from guidino_cli.commands.weights.words import in_bytes, licence_of, millions
from guidino_cli.errors import WeightsError
from guidino_cli.models.pretrained.catalogue import EMBEDDED_LICENCE, KNOWN, recognised
from guidino_cli.models.pretrained.finding import advising, find, find_embedded, weight_files
from guidino_cli.progress import say


def run_list() -> None:
    """Print the known weights with what they are and whether they are here."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("name", "size", "params", "download", "licence", "where"):
        table.add_column(name, no_wrap=True, justify="right" if name in {"params", "download"} else "left")
    for item in KNOWN:
        place = find(item.repository)
        licence = item.licence.removesuffix(" licence")
        where = "not here" if place is None else {"cache": "cached", "local": "local"}[place.origin]
        table.add_row(item.name, item.size, millions(item.parameters), in_bytes(item.download_bytes), licence, where)
    installed = "not here" if find_embedded() is None else "installed"
    table.add_row(EMBEDDED, "-", "22 M", "90 MB", "Apache/MIT", installed)
    table.add_row(TINY, "-", "11 M", "-", "Apache/MIT", "in guidino")
    Console(highlight=False).print(table)
    say("DINOv3 is gated: accept its licence on the hub first. Get one: guidino weights download NAME")
    say("Train with one: --set model.backbone.name=dinov3 --set 'model.backbone.options={size: SIZE}'")


@advising(WAYS_OUT)
def run_where(name: str) -> None:
    """Print the folder or file that a preset, backbone, known name, hub id or path loads.

    Raises:
        WeightsError: It is not on this machine.
        ConfigError: No such name, or a preset without pretrained weights.
    """
    source = source_of(name)
    place = place_of(source)
    if place is None:
        other = "; backbone guidino-tiny needs no hub and is in the package"
        raise WeightsError(f"{source}: not on this machine; {gate(source)}get it: {way_to(source)}{other}")
    if place.path.is_dir() and not weight_files(place.path):
        raise WeightsError(f"{place.path}: a folder without weights; expected config.json and model.safetensors")
    known = recognised(source)
    licence = EMBEDDED_LICENCE if source == EMBEDDED else licence_of(known.licence) if known else None
    if licence is not None:
        say(f"{known.name if known else source}; licence: {licence}")
    print(place.path)
