"""From a run and images to masks, and on request guides, probabilities and overlays."""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from guidino_cli import __version__
from guidino_cli.commands.picture_inputs import check_out
from guidino_cli.config import RunConfig
from guidino_cli.data.images import find_images, is_image, write_atomically, write_label_map, write_text
from guidino_cli.data.manifest import FILE_NAME, load_manifest
from guidino_cli.engine.devices import pick_device
from guidino_cli.engine.inference import Segmented, Window, segment_file
from guidino_cli.engine.run_folder import load_run
from guidino_cli.errors import ConfigError, DataError, PartialError
from guidino_cli.plots.outlines import draw_outlines
from guidino_cli.progress import say, track


@dataclass(frozen=True)
class Extras:
    """What is written beside the masks, each in a folder of its own."""

    guide: bool = False
    probabilities: bool = False
    overlay: bool = False


def run(
    run_path: Path,
    images: Sequence[Path],
    *,
    out: Path,
    extras: Extras,
    split: str = "test",
    values: str = "index",
    overrides: tuple[str, ...] = (),
    device: str | None = None,
    offline: bool = False,
    overwrite: bool = False,
    skip_existing: bool = False,
) -> None:
    """Segment images and write one mask each, in the grid and under the name of its image."""
    if values not in {"index", "255"}:
        raise ConfigError(f"--values {values}: expected index (0, 1, 2, ...) or 255 (background 0, foreground 255)")
    todo = _named(images, split)
    ways = "add --overwrite or --skip-existing"
    check_out(out, images, overwrite=overwrite or skip_existing, ways=ways)
    model, config, facts = load_run(run_path, overrides=overrides, offline=offline)
    if extras.guide and model.guide is None:
        raise ConfigError(f"{run_path}: has no guide to save; leave out --save-guide")
    if values == "255" and len(facts["classes"]) > 2:
        raise ConfigError(f"--values 255 is for two classes, the run has {len(facts['classes'])}: use --values index")
    model.to(pick_device(device))
    settings = config.predict
    window = Window(
        config.data.image_size, settings.overlap, settings.mirror, settings.batch_size, settings.mirror_backbone
    )
    hint = "; --set predict.mirror=false is about four times as fast" if window.mirror else ""
    say(f"{len(todo)} images in windows of {window.size} px on {model.mean.device}{hint}")
    records: list[dict[str, Any]] = []
    for name, image in track(todo.items(), total=len(todo), description="predict"):
        mask = out / f"{name}.png"
        if skip_existing and mask.is_file():
            continue
        record: dict[str, Any] = {"image": str(image), "mask": mask.name, "status": "ok"}
        started = time.perf_counter()
        try:
            _write(segment_file(model, image, config.data, window), out, name, extras, values)
        except DataError as error:
            record |= {"mask": None, "status": "error", "message": str(error)}
            print(f"guidino: {error}", file=sys.stderr)
        records.append({**record, "seconds": round(time.perf_counter() - started, 3)})
    write_text(out / "predictions.json", _report(run_path, config, facts, records))
    failed = [record for record in records if record["status"] == "error"]
    meaning = "0 and 255" if values == "255" else f"class indices 0..{len(facts['classes']) - 1}"
    made = len(records) - len(failed)
    # Nothing was written: either nothing could be read, or all masks were there already.
    following = f"; next: guidino evaluate {out} TRUTH -o REPORT" if made or len(records) < len(todo) else ""
    print(f"{made} {'mask' if made == 1 else 'masks'} in {out} ({meaning}){following}")
    if failed:
        raise PartialError(f"{len(failed)} of {len(records)} images could not be read; see {out / 'predictions.json'}")


def _named(images: Sequence[Path], split: str) -> dict[str, Path]:
    """Images by the name their mask will have: files, folders of images, or prepared data folders (one split)."""
    found: dict[str, Path] = {}
    for place in images:
        for name, path in _named_at(place, split).items():
            if name in found:
                raise DataError(f"{found[name]} and {path}: both would be written as {name}.png; predict them apart")
            found[name] = path
    return found


def _named_at(place: Path, split: str) -> dict[str, Path]:
    if (place / FILE_NAME).is_file() or place.name == FILE_NAME:
        cases = load_manifest(place).cases
        chosen = {case.id: case.image for case in cases if split in {"all", case.split}}
        if not chosen:
            raise DataError(f"{place}: no cases in split '{split}'; expected train, val, test or all")
        return chosen
    if place.is_dir():
        paths = find_images(place)
        if not paths:
            raise DataError(f"{place}: no images (PNG, JPEG, TIFF, BMP, GIF or WebP) directly in this folder")
    elif is_image(place):
        paths = [place]
    else:
        raise DataError(f"{place}: " + ("not an image file" if place.exists() else "no such file or folder"))
    stems = [path.stem for path in paths]
    twice = next((stem for stem in stems if stems.count(stem) > 1), None) if len(set(stems)) < len(stems) else None
    if twice is not None:
        raise DataError(f"{place}: several images named {twice}; their masks would overwrite each other")
    return {path.stem: path for path in paths}


def _write(result: Segmented, out: Path, name: str, extras: Extras, values: str) -> None:
    """Write the extras first: where the mask stands, everything of its image does."""
    if extras.guide and result.guide is not None:
        _write_guide(result.guide, out / "guides", name)
    if extras.probabilities:
        content = result.probabilities.numpy().astype(np.float16)
        write_atomically(
            out / "probabilities" / f"{name}.npz", lambda path: np.savez_compressed(path, probabilities=content)
        )
    if extras.overlay:
        _save_png(out / "overlays" / f"{name}.png", draw_outlines(result.pixels, result.labels))
    write_label_map(out / f"{name}.png", result.labels * (255 if values == "255" else 1))


def _write_guide(guide: Tensor, folder: Path, name: str) -> None:
    """The map that gates, and of several maps, one a class, each in a folder of its class."""
    grey = (guide.numpy() * 255).round().astype(np.uint8)
    _save_png(folder / f"{name}.png", grey.max(axis=0))
    if len(grey) > 1:
        for index, one in enumerate(grey, start=1):
            _save_png(folder / f"class_{index}" / f"{name}.png", one)


def _save_png(path: Path, pixels: np.ndarray) -> None:
    image = Image.fromarray(pixels)
    write_atomically(path, lambda place: image.save(place, compress_level=3))


def _report(run_path: Path, config: RunConfig, facts: dict[str, Any], records: list[dict[str, Any]]) -> str:
    content = {
        "guidino": __version__,
        "run": str(run_path),
        "classes": facts["classes"],
        "backbone": facts["backbone"],
        "predict": asdict(config.predict),
        "images": records,
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
