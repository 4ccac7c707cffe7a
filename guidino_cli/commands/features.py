"""`guidino features`: vectors of images, tiles or slices from a frozen backbone, written once for `probe`."""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guidino_cli import __version__
from guidino_cli.data.feature_folder import (
    ABOUT_FILE,
    BACKBONE,
    FORMAT,
    RANDOM,
    FeatureFolder,
    FeatureItem,
    read_about,
    read_feature_folder,
    write_items,
)
from guidino_cli.data.labelled.items import LabelledSet
from guidino_cli.data.labelled.layouts import read_labelled_set
from guidino_cli.errors import ConfigError, PartialError, StoppedError, unknown_name
from guidino_cli.files import write_text
from guidino_cli.models import BACKBONES
from guidino_cli.options.parsing import parse_fixed_grey_window, split_names
from guidino_cli.options.probing import FeatureOptions
from guidino_cli.outputs import require_output_folder
from guidino_cli.progress import join_first, log_info, pluralize, track

if TYPE_CHECKING:
    from guidino_cli.engine.features.extraction import ExtractionSettings, Part
    from guidino_cli.models.base import Backbone

_TOKENS = ("mean", "cls", "cls+mean")


def run(place: Path, options: FeatureOptions) -> None:
    """Write the vectors of a data set, go on where an earlier call was stopped, or find that nothing is left to do.

    Raises:
        ConfigError: Options that do not go together, or features of another backbone or of other settings there.
        DataError: A data set that cannot be used.
        WeightsError: The backbone's weights cannot be loaded.
        PartialError: The features are written, but some items could not be read.
    """
    side, window = check_options(options)
    data = read_data(place, options)
    about = None if options.overwrite else read_about(options.out)
    # Even damaged, the file tells that guidino wrote the folder.
    is_ours = not options.out.exists() or (options.out / ABOUT_FILE).is_file()
    require_output_folder(
        options.out,
        [place],
        overwrite=options.overwrite or about is not None,
        recognised=is_ours if options.overwrite else None,
    )
    for note in data.notes:
        log_info(note)
    # torch is imported from here on.
    from guidino_cli.data.labelled.pictures import SliceOptions
    from guidino_cli.engine.features.extraction import ExtractionSettings

    slices = SliceOptions(options.every, window, options.orientation)
    settings = ExtractionSettings(
        options.token,  # type: ignore[arg-type]  # checked when the backbone is loaded
        side, slices, options.min_tissue, options.controls, options.batch,
    )  # fmt: skip
    networks = _build_networks(options)
    wanted = _describe(place, data, options, settings, networks)
    if about is not None:
        _require_same(options.out, about, wanted)
        if about["complete"]:
            _settle(place, data, options.out, wanted)
            return
    elif options.overwrite and options.out.exists():
        shutil.rmtree(options.out)
    _extract(data, options.out, networks, settings, wanted, before=about)


def read_data(place: Path, options: FeatureOptions) -> LabelledSet:
    """The data set with the labels and classes that the options choose; errors as of `read_labelled_set`."""
    return read_labelled_set(place, labels=split_names(options.label), names=split_names(options.classes))


def root_of(place: Path) -> Path:
    """The folder of a data set."""
    return (place if place.is_dir() else place.parent).absolute()


def _parse_px(text: str) -> int | None:
    if text == "native":
        return None
    if not text.isascii() or not text.isdigit() or not 8 <= int(text) <= 4096:
        raise ConfigError(f"--px {text}: expected a side in pixels from 8 to 4096, or native")
    return int(text)


def check_options(options: FeatureOptions) -> tuple[int | None, tuple[float, float] | None]:
    """Side of the pictures and window of the intensities; refuses options before torch, whose import takes seconds.

    Raises:
        ConfigError: A value that cannot be.
    """
    side = _parse_px(options.px)
    window = (
        None
        if options.window is None
        else parse_fixed_grey_window(
            "--window", options.window, expected="level and width, such as 40,400 for soft tissue in CT"
        )
    )
    if options.backbone not in BACKBONES:
        raise ConfigError(f"--backbone: {unknown_name('backbone', options.backbone, BACKBONES)}")
    if options.layers not in {1, 4}:
        raise ConfigError(f"--layers {options.layers}: expected 1 or 4")
    if options.token not in _TOKENS:
        raise ConfigError(f"--token: {unknown_name('token', options.token, _TOKENS)}")
    return side, window


def _build_networks(options: FeatureOptions) -> "dict[str, Backbone]":
    from guidino_cli.engine.devices import pick_device
    from guidino_cli.engine.features.vectors import build_deepest, random_twin, require_token
    from guidino_cli.models.pretrained.hub import WEIGHTS_OPTION_HINT, replace_hint

    device = pick_device(options.device)
    given = {} if options.weights is None else {"weights": options.weights}
    with replace_hint(WEIGHTS_OPTION_HINT):
        backbone = build_deepest(options.backbone, given, blocks=options.layers, offline=options.offline)
    require_token(backbone, options.token)  # type: ignore[arg-type]
    networks = {BACKBONE: backbone.to(device).eval()}
    if options.controls:
        networks[RANDOM] = random_twin(backbone, seed=options.seed).to(device).eval()
    return networks


def _describe(
    place: Path,
    data: LabelledSet,
    options: FeatureOptions,
    settings: "ExtractionSettings",
    networks: "dict[str, Backbone]",
) -> dict[str, Any]:
    """Content of features.json while the folder is incomplete."""
    from guidino_cli.data.feature_folder import PIXELS
    from guidino_cli.engine.features.files import items_sha256
    from guidino_cli.engine.features.vectors import PIXELS_SIDE

    backbone = networks[BACKBONE]
    identity = dict(backbone.identity)
    slices = asdict(settings.slices)
    return {
        "format": FORMAT,
        "guidino": __version__,
        "created": datetime.now().astimezone().isoformat(timespec="seconds"),
        "complete": False,
        "source": str(place),
        "root": str(root_of(place)),
        "classes": list(data.classes),
        "multilabel": data.is_multilabel,
        "kinds": [*networks, *([PIXELS] if settings.pixels else [])],
        "backbone": {"name": options.backbone, **identity, "blocks": list(getattr(backbone, "layers", []))},
        "settings": {
            "token": settings.token,
            "layers": options.layers,
            "px": options.px,
            **{name: list(value) if isinstance(value, tuple) else value for name, value in slices.items()},
            "min_tissue": settings.min_tissue,
            "controls": options.controls,
            "seed": options.seed,
        },
        "preprocessing": "squeezed to px with antialiasing, grey three times, mean and deviation of the backbone's own"
        f"; pixels: squeezed to {PIXELS_SIDE} x {PIXELS_SIDE}; half precision",
        "items_sha256": items_sha256(data),
    }


def _require_same(folder: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Refuse features that another backbone, other settings or another data set made."""
    anew = "choose another -o, or add --overwrite to begin anew"
    before, now = (about["backbone"] for about in (found, wanted))
    if before["sha256"] != now["sha256"]:
        raise ConfigError(
            f"-o {folder}: holds features of {before['name']} (SHA-256 {before['sha256']}), not of {now['name']} "
            f"(SHA-256 {now['sha256']}); {anew}"
        )
    old, new = ({**about["settings"], "blocks": about["backbone"]["blocks"]} for about in (found, wanted))
    different = [f"{name} {old.get(name)} and not {new[name]}" for name in new if old.get(name) != new[name]]
    if different:
        raise ConfigError(f"-o {folder}: holds features with {join_first(different)}; {anew}")
    if found["items_sha256"] != wanted["items_sha256"]:
        raise ConfigError(
            f"-o {folder}: holds features of other items of {found['source']}, or of another split; {anew}"
        )


def _is_elsewhere(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether features were made of files in another place; files of one name may differ there."""
    places = [(about["root"], Path(about["source"]).name) for about in (before, now)]
    return places[0] != places[1]


def _settle(place: Path, data: LabelledSet, out: Path, wanted: dict[str, Any]) -> None:
    """A complete folder: nothing is computed, only labels are taken anew, which may have been corrected."""
    from guidino_cli.engine.features.files import find_changed_since

    folder = read_feature_folder(out)
    is_elsewhere = _is_elsewhere(folder.about, wanted)
    changed = find_changed_since(folder, data, root=Path(wanted["root"]), is_elsewhere=is_elsewhere)
    if changed:
        names = join_first([str(path) for path in changed], limit=3)
        raise ConfigError(
            f"-o {out}: {pluralize(len(changed), 'file')} changed since its features were written ({names}); add "
            "--overwrite to begin anew"
        )
    before = [(entry.item.labels, entry.item.group, entry.item.fold) for entry in folder.items]
    after = [(item.labels, item.group, item.fold) for item in data.items]
    is_relabelled = before != after or (folder.classes, folder.is_multilabel) != (data.classes, data.is_multilabel)
    if is_relabelled or is_elsewhere:
        entries = [
            FeatureItem(item, entry.size_hw, entry.start, entry.count, entry.error, entry.sha256)
            for item, entry in zip(data.items, folder.items, strict=True)
        ]
        own = {name: wanted[name] for name in ("classes", "multilabel", "root", "source")}
        about = {**folder.about, **own}
        write_items(out, entries, data.classes, is_multilabel=data.is_multilabel, root=Path(about["root"]))
        write_text(out / ABOUT_FILE, json.dumps(about, indent=2, ensure_ascii=False) + "\n")
        what = "other labels" if is_relabelled else "the same files in another place"
        log_info(f"{place}: {what} than before, written to {out}")
    _report(out, folder, computed=0)


def _extract(
    data: LabelledSet,
    out: Path,
    networks: "dict[str, Backbone]",
    settings: "ExtractionSettings",
    about: dict[str, Any],
    *,
    before: dict[str, Any] | None,
) -> None:
    from guidino_cli.engine.features.extraction import FeatureExtractor

    out.mkdir(parents=True, exist_ok=True)
    if before is None:
        write_text(out / ABOUT_FILE, json.dumps(about, indent=2, ensure_ascii=False) + "\n")
    extractor = FeatureExtractor(
        data.items, out, networks, settings, root=Path(about["root"]),
        is_elsewhere=before is not None and _is_elsewhere(before, about),
    )  # fmt: skip

    def show(parts: "Iterable[Part]", total: int) -> "Iterator[Part]":
        return track(parts, total=total, description="features")

    try:
        entries, computed = extractor.run(show)
    except KeyboardInterrupt as error:
        raise StoppedError(f"stopped; the same command goes on where {out} ends") from error
    write_items(out, entries, data.classes, is_multilabel=data.is_multilabel, root=Path(about["root"]))
    write_text(out / ABOUT_FILE, json.dumps({**about, "complete": True}, indent=2, ensure_ascii=False) + "\n")
    extractor.finish()
    _report(out, read_feature_folder(out), computed=computed)


def _report(out: Path, folder: FeatureFolder, *, computed: int) -> None:
    vectors = sum(entry.count for entry in folder.items)
    splits = _count_splits(folder.items)
    backbone = folder.about["backbone"]
    done = "nothing to compute" if not computed else f"{pluralize(computed, 'item')} computed"
    print(f"{pluralize(len(folder.items), 'item')} ({splits}), {pluralize(vectors, 'vector')}; {done}")
    print(f"backbone {backbone['name']}, SHA-256 {backbone['sha256'][:12]}...; {', '.join(folder.kinds)}")
    print(f"wrote {out}; next: guidino probe linear {out} -o REPORT")
    # Most reasons name the file already, but not which of the many in an archive it is about.
    failed = [
        entry.error
        if entry.item.path.name in entry.error and not entry.item.array
        else f"{entry.item.id}: {entry.error}"
        for entry in folder.items
        if entry.error
    ]
    if failed:
        raise PartialError(
            f"{pluralize(len(failed), 'item')} left out, the rest is written: {join_first(failed, '; ')}"
        )


def _count_splits(items: Sequence[FeatureItem]) -> str:
    counts: dict[str, int] = {}
    for entry in items:
        counts[entry.item.split or "no split"] = counts.get(entry.item.split or "no split", 0) + 1
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())
