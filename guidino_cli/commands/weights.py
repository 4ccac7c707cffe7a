"""`guidino weights`: list, locate, import and download pretrained weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from guidino_cli.commands.weights_embedded import EMBEDDED_MB, download_embedded
from guidino_cli.config import load_preset, preset_names
from guidino_cli.errors import ConfigError, WeightsError, unknown_name
from guidino_cli.files import file_sha256
from guidino_cli.models import BACKBONES
from guidino_cli.models.pretrained.catalogue import (
    EMBEDDED_LICENCE,
    KNOWN_WEIGHTS,
    LICENCE_PAGES,
    default_size,
    find_by_size,
    identify_weights,
)
from guidino_cli.models.pretrained.hub import (
    EMBEDDED_COMMAND,
    TINY_FILE,
    WeightsLocation,
    download_weights,
    find_embedded_file,
    find_weights,
    is_offline,
    replace_hint,
    weight_files,
)
from guidino_cli.outputs import require_output_folder
from guidino_cli.progress import log_info

if TYPE_CHECKING:
    from guidino_cli.models.pretrained.loading import LoadedNetwork

EMBEDDED, TINY = "embedded", "guidino-tiny"
COMMAND_HINT = (
    "use a local folder or file, import one with `guidino weights import FILE -o FOLDER`, or use weights that need no "
    "hub: guidino-tiny, which comes with guidino, or embedded (guidino weights download embedded)"
)


def file_hashes(path: Path) -> list[tuple[str, str]]:
    """Name and SHA-256 of a file, or of each weight file of a folder: large models come in several."""
    files = [path] if path.is_file() else weight_files(path)
    return [(file.name, file_sha256(file)) for file in files]


def describe_network(loaded: LoadedNetwork) -> str:
    """Architecture, size and precision."""
    count = sum(parameter.numel() for parameter in loaded.network.parameters())
    dtype = str(next(loaded.network.parameters()).dtype).removeprefix("torch.")
    return f"{loaded.network.config.model_type}, {count:,} parameters, {dtype}"


def format_licence(name: str) -> str:
    """A licence with the page of its text, if known."""
    page = LICENCE_PAGES.get(name)
    return f"{name} ({page})" if page else name


def format_features(values: list[float]) -> str:
    """Features with four decimals."""
    return " ".join(f"{value:.4f}" for value in values)


def format_bytes(count: int) -> str:
    """A download size, such as `343 MB`."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def run_import(
    source: Path, *, out: Path, name: str | None, overwrite: bool, mean: str | None = None, std: str | None = None
) -> None:
    """Convert a file or folder of weights to a folder in Hugging Face layout.

    Args:
        source: The file or folder.
        out: Folder to write.
        name: Name to record.
        overwrite: Replace an older import.
        mean: Mean of its images per channel, such as "0.5,0.5,0.5", instead of what comes with the weights.
        std: Standard deviation likewise.

    Raises:
        WeightsError: The source has no weights, another architecture, or nothing states mean and standard deviation.
        ConfigError: The folder is not empty, or mean and std are not three numbers each.
    """
    given = _parse_statistics(mean, std)
    if not source.exists():
        raise WeightsError(f"{source}: no such file or folder")
    holds_weights = (out / "config.json").is_file() and bool(weight_files(out))
    require_output_folder(out, [source], overwrite=overwrite, recognised=holds_weights, may_be_nested=True)
    from guidino_cli.models.backbones.dino import as_backbone
    from guidino_cli.models.pretrained.feature_checks import feature_fingerprint
    from guidino_cli.models.pretrained.loading import load_network
    from guidino_cli.models.pretrained.saving import ImportRecord, save_converted_weights
    from guidino_cli.models.pretrained.statistics import format_statistics
    from guidino_cli.models.pretrained.strict_loading import loading_errors

    loaded = load_network(str(source.resolve()), family=None, offline=True, statistics=given)
    sha256 = file_hashes(source)[0][1]
    with loading_errors(source):
        features = feature_fingerprint(as_backbone(loaded))
    known = identify_weights(name or source.stem, file_sha256=sha256)
    record = ImportRecord(
        name=name or (known.name if known else source.stem),
        source=source.name,
        source_sha256=sha256,
        weights_sha256=loaded.identity["sha256"],
        licence=loaded.identity["licence"],
        features=features,
    )
    save_converted_weights(loaded, record, out)
    written = load_network(str(out.resolve()), family=None, offline=True).identity["sha256"]
    if written != record.weights_sha256:
        raise WeightsError(f"{out}: reading back gives other weights than were written; the disk may be failing")
    print(f"wrote {out}: {describe_network(loaded)}, SHA-256 {record.weights_sha256}")
    print(f"images are normalised with {format_statistics((loaded.mean, loaded.std))}")
    log_info(f"licence: {format_licence(record.licence)}")
    log_info(f"use: --set model.backbone.options.weights={out}")


def _parse_statistics(mean: str | None, std: str | None) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Values of --mean and --std, or None without them."""
    if mean is None and std is None:
        return None
    from guidino_cli.models.pretrained.statistics import to_statistics

    try:
        return to_statistics(
            "--mean and --std", *([float(item) for item in (text or "").split(",")] for text in (mean, std))
        )
    except (ValueError, WeightsError) as error:
        raise ConfigError(
            f"--mean {mean} --std {std}: expected both, as three numbers such as 0.485,0.456,0.406 (std positive)"
        ) from error


def resolve_source(name: str) -> str:
    """The folder, file or hub id of a path, known name, preset, backbone or hub id."""
    if Path(name).expanduser().exists() or name in {EMBEDDED, TINY}:
        return name
    if name in preset_names() or name.endswith((".yaml", ".yml")):
        part = load_preset(name).model.backbone
        if part is None:
            raise ConfigError(f"preset {name} has no backbone, so it loads no pretrained weights")
        return _resolve_part(part.name, part.options)
    if name in BACKBONES:
        return _resolve_part(name, {})
    if "/" in name or name.startswith("."):
        return name
    names = {item.name: item.repository for item in KNOWN_WEIGHTS}
    if name not in names:
        raise ConfigError(
            unknown_name("weights or preset", name, [*names, EMBEDDED, TINY], lister="guidino weights list")
        )
    return names[name]


def _resolve_part(backbone: str, options: dict[str, Any]) -> str:
    if backbone in {EMBEDDED, TINY}:
        return backbone
    if options.get("weights"):
        return str(options["weights"])
    if backbone not in {item.backbone for item in KNOWN_WEIGHTS}:
        raise ConfigError(f"backbone {backbone} has no default weights; pass a folder, file or hub id")
    size = options.get("size") or default_size(backbone)
    if not size:
        raise ConfigError(f"backbone {backbone} has no default weights; name one of `guidino weights list`")
    return find_by_size(backbone, size).repository


def locate_source(source: str) -> WeightsLocation | None:
    """Location of a source on this machine, or None."""
    if source == TINY:
        return WeightsLocation(TINY_FILE, "local")
    if source != EMBEDDED:
        return find_weights(source)
    path = find_embedded_file()
    return None if path is None else WeightsLocation(path, "local")


def acquisition_hint(source: str) -> str:
    """Hint on how to get the weights of a source, for messages."""
    if source == EMBEDDED:
        return f"`{EMBEDDED_COMMAND}` ({EMBEDDED_MB} MB)"
    known = identify_weights(source)
    name, size = (known.name, f" ({format_bytes(known.download_bytes)})") if known else (source, "")
    return f"`guidino weights download {name}`{size}, or import a file: `guidino weights import FILE -o FOLDER`"


def gate_hint(source: str) -> str:
    """Hint on steps before a gated download, or "" if the weights are not gated."""
    known = identify_weights(source)
    if known is None or not known.gated or source == known.ungated_copy:
        return ""
    copy = f", or add --ungated for the same weights from {known.ungated_copy}" if known.ungated_copy else ""
    return f"gated: accept its licence first at https://huggingface.co/{known.repository}{copy}; "


@replace_hint(COMMAND_HINT)
def run_download(name: str, *, out: Path | None, offline: bool, ungated: bool = False) -> None:
    """Download known weights, or any hub id, into the cache or a folder; size and licence are printed first.

    Args:
        name: Known name, preset, backbone or hub id.
        out: Folder to write; None for the cache.
        offline: Find them on this machine or fail.
        ungated: Take the copy of gated weights that has no gate.

    Raises:
        WeightsError: The hub refuses or cannot be reached, or offline mode is on.
        ConfigError: The folder is not empty, or no copy without a gate is known.
    """
    source = resolve_source(name)
    if ungated:
        source = _find_ungated(source)
    if source == EMBEDDED:
        download_embedded(out, offline=offline or is_offline())
        return
    if source == TINY:
        raise ConfigError("guidino-tiny comes with guidino, nothing to download; try: guidino train -p own-unet")
    if out is not None:
        require_output_folder(out, overwrite=False, hint=f"check it with `guidino weights verify {out}`")
    known = identify_weights(source)
    if known is not None:
        log_info(f"{known.name}: about {format_bytes(known.download_bytes)} from {source}")
        log_info(f"licence: {format_licence(known.licence)}")
    location = find_weights(source) if out is None else None
    if location is None:
        if offline or is_offline():
            hint = f"leave out --offline, or {acquisition_hint(source)}"
            raise WeightsError(f"{source}: not on this machine, and offline; {hint}")
        location = WeightsLocation(download_weights(source, folder=out), "cache")
    if ungated:
        log_info(f"use: --set model.backbone.options.weights={source if out is None else out}")
    print(location.path)


def _find_ungated(source: str) -> str:
    """The copy without a gate of gated weights; `ConfigError` for others."""
    known = identify_weights(source)
    if known is None or not known.ungated_copy:
        names = ", ".join(item.name for item in KNOWN_WEIGHTS if item.ungated_copy)
        raise ConfigError(f"--ungated: no copy of {source} is known; expected one of {names}")
    return known.ungated_copy


@replace_hint(COMMAND_HINT)
def run_where(name: str) -> None:
    """Print the folder or file that a path, known name, preset, backbone or hub id would load.

    Raises:
        WeightsError: It is not on this machine.
        ConfigError: No such name, or a preset without pretrained weights.
    """
    source = resolve_source(name)
    location = locate_source(source)
    if location is None:
        hint = f"{gate_hint(source)}get it: {acquisition_hint(source)}"
        raise WeightsError(
            f"{source}: not on this machine; {hint}; backbone guidino-tiny comes with guidino and needs no hub"
        )
    if location.path.is_dir() and not weight_files(location.path):
        raise WeightsError(f"{location.path}: a folder without weights; expected config.json and model.safetensors")
    known = identify_weights(source)
    licence = EMBEDDED_LICENCE if source == EMBEDDED else format_licence(known.licence) if known else None
    if licence is not None:
        log_info(f"{known.name if known else source}; licence: {licence}")
    print(location.path)
