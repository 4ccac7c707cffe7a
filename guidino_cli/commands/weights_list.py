"""`guidino weights list`: the known pretrained weights, and where they are on this machine."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from guidino_cli.commands.json_output import print_json
from guidino_cli.commands.weights import EMBEDDED, TINY, format_bytes, locate_source
from guidino_cli.commands.weights_embedded import EMBEDDED_MB
from guidino_cli.models.pretrained.catalogue import EMBEDDED_LICENCE, HAI_DEF_TERMS, KNOWN_WEIGHTS, LICENCE_PAGES
from guidino_cli.models.pretrained.hub import WeightsLocation, find_embedded_file, find_weights
from guidino_cli.models.pretrained.statistics import HALF, IMAGENET, format_statistics
from guidino_cli.progress import log_info

SCHEMA = 1


def run(*, as_json: bool = False) -> None:
    """Print the known weights: size, parameters, download, licence, and where they are."""
    found = {
        item.name: find_weights(item.repository) or (find_weights(item.ungated_copy) if item.ungated_copy else None)
        for item in KNOWN_WEIGHTS
    }
    if as_json:
        _print_list_as_json(found)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("name", "size", "params", "download", "licence", "where"):
        table.add_column(name, no_wrap=True, justify="right" if name in {"params", "download"} else "left")
    for item in KNOWN_WEIGHTS:
        location = found[item.name]
        licence = item.licence.removesuffix(" licence").removesuffix(" terms")
        where = "not here" if location is None else {"cache": "cached", "local": "local"}[location.origin]
        parameters, download = f"{item.parameters / 1e6:.0f} M", format_bytes(item.download_bytes)
        table.add_row(item.name, item.size, parameters, download, licence, where)
    embedded = "not here" if find_embedded_file() is None else "cached"
    table.add_row(EMBEDDED, "-", "22 M", f"{EMBEDDED_MB} MB", "Apache/MIT", embedded)
    table.add_row(TINY, "-", "11 M", "-", "Apache/MIT", "in guidino")
    Console(highlight=False).print(table)
    log_info(
        "DINOv3 is gated: accept its licence on the hub first, or take timm's copy of the same tensors, which has no "
        "gate and the same licence (--ungated). Download: guidino weights download NAME"
    )
    log_info(f"medsiglip is gated too: {HAI_DEF_TERMS} ({LICENCE_PAGES[HAI_DEF_TERMS]}). All others have no gate.")
    log_info(
        f"Images are normalised with {format_statistics(IMAGENET)} (ImageNet's); for siglip and medsiglip with "
        f"{format_statistics(HALF)}; for rad-dino as its preprocessor_config.json states."
    )
    log_info(
        "Use: --set model.backbone.name=dinov3 --set 'model.backbone.options={size: SIZE}'; the name is vit for dino- "
        "and siglip weights, dinov2 for rad-dino"
    )


def _print_list_as_json(found: Mapping[str, WeightsLocation | None]) -> None:
    rows: list[dict[str, Any]] = [
        {
            "name": item.name,
            "backbone": item.backbone,
            "size": item.size,
            "parameters": item.parameters,
            "download_bytes": item.download_bytes,
            "licence": item.licence,
            "licence_url": LICENCE_PAGES.get(item.licence),
            "repository": item.repository,
            "is_gated": item.gated,
            "ungated_copy": item.ungated_copy or None,
            "mean": None if item.statistics is None else list(item.statistics[0]),
            "std": None if item.statistics is None else list(item.statistics[1]),
            **_place(found[item.name]),
        }
        for item in KNOWN_WEIGHTS
    ]
    no_hub = {"licence_url": None, "repository": None, "is_gated": False, "ungated_copy": None, "size": None}
    for name, parameters, download in ((EMBEDDED, 22_056_576, EMBEDDED_MB * 1_000_000), (TINY, 11_405_184, 0)):
        own = {"name": name, "backbone": name, "parameters": parameters, "download_bytes": download}
        own |= {"mean": list(IMAGENET[0]), "std": list(IMAGENET[1])}
        rows.append({**own, "licence": EMBEDDED_LICENCE, **no_hub, **_place(locate_source(name))})
    print_json({"weights": rows}, schema=SCHEMA)


def _place(location: WeightsLocation | None) -> dict[str, Any]:
    return {
        "is_here": location is not None,
        "path": None if location is None else str(location.path),
    }
