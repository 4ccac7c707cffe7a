"""Label files of predicted masks: `predict --format coco`, `yolo` or `geojson`."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import yaml

from guidino_cli.commands.prediction.jobs import Job
from guidino_cli.data.images import read_labels
from guidino_cli.data.label_files.outlines import join_holes, trace_outlines
from guidino_cli.data.label_files.run_lengths import encode_runs, runs_to_text
from guidino_cli.errors import ConfigError
from guidino_cli.files import write_text
from guidino_cli.options.prediction import PredictOptions

FORMATS = ("coco", "yolo", "geojson")
_DIGITS = 8
"""Decimals of YOLO's shares: exact to a thousandth of a pixel up to 100,000 px."""


class _Part(NamedTuple):
    """A connected region of one class: its index, where its box begins, and its mask in the box."""

    class_index: int
    row: int
    column: int
    inside: np.ndarray

    def outlines(self) -> list[np.ndarray]:
        """Outer outline and holes in pixels of the image."""
        return [ring + np.array([self.column, self.row]) for ring in trace_outlines(self.inside)]


def require_format(options: PredictOptions) -> None:
    """`ConfigError` for an unknown format, and for one with shards, of which none has all masks."""
    if options.format is None:
        return
    if options.format not in FORMATS:
        raise ConfigError(f"--format {options.format}: expected {', '.join(FORMATS)}")
    if options.shard is not None:
        raise ConfigError("--format needs all masks: when all shards are done, give it with --skip-existing")


def write_label_files(out: Path, jobs: Sequence[Job], classes: Sequence[str], options: PredictOptions) -> None:
    """Write the masks of a folder as label files, too; a connected region of one class is one annotation.

    Args:
        out: Folder of the masks.
        jobs: Images whose masks may be there.
        classes: Names, the background first.
        options: With the format, and the values of the masks.
    """
    factor = 255 if options.values == "255" else 1
    masks = [(job, out / f"{job.name}.png") for job in jobs]
    written = ((job, read_labels(path)[0].astype(np.uint8) // factor) for job, path in masks if path.is_file())
    if options.format != "coco":
        for job, path in masks:
            if not path.is_file():
                _label_file(out, job, options).unlink(missing_ok=True)
    if options.format == "coco":
        write_text(out / "coco.json", json.dumps(_as_coco(written, classes), ensure_ascii=False) + "\n")
    elif options.format == "yolo":
        for job, labels in written:
            write_text(_label_file(out, job, options), "".join(_yolo_lines(labels)))
        names = dict(enumerate(classes[1:]))
        text = yaml.safe_dump({"val": "images", "names": names}, allow_unicode=True, sort_keys=False)
        write_text(out / "data.yaml", text)
    else:
        for job, labels in written:
            content = {"type": "FeatureCollection", "features": [_as_feature(part, classes) for part in _parts(labels)]}
            write_text(_label_file(out, job, options), json.dumps(content, ensure_ascii=False) + "\n")


def _label_file(out: Path, job: Job, options: PredictOptions) -> Path:
    """The label file of one mask, in formats that have one for each."""
    return out / "labels" / f"{job.name}.txt" if options.format == "yolo" else out / "geojson" / f"{job.name}.geojson"


def _parts(labels: np.ndarray) -> Iterator[_Part]:
    """Regions whose pixels share sides."""
    # Imported where label files are written: `predict` alone starts without it.
    from scipy import ndimage

    for index in sorted(set(np.unique(labels).tolist()) - {0}):
        numbered, _ = ndimage.label(labels == index)
        for number, (rows, columns) in enumerate(ndimage.find_objects(numbered), start=1):
            yield _Part(index, rows.start, columns.start, numbered[rows, columns] == number)


def _as_coco(written: Iterator[tuple[Job, np.ndarray]], classes: Sequence[str]) -> dict[str, Any]:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for job, labels in written:
        height, width = labels.shape
        name = (PurePosixPath(job.name).parent / Path(job.image).name).as_posix()
        images.append({"id": len(images) + 1, "file_name": name, "width": width, "height": height})
        for part in _parts(labels):
            rows, columns = part.inside.shape
            whole = np.zeros((height, width), dtype=bool)
            whole[part.row : part.row + rows, part.column : part.column + columns] = part.inside
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": len(images),
                    "category_id": part.class_index,
                    "segmentation": {"size": [height, width], "counts": runs_to_text(encode_runs(whole))},
                    "area": int(part.inside.sum()),
                    "bbox": [part.column, part.row, columns, rows],
                    "iscrowd": 0,
                }
            )
    categories = [{"id": index, "name": name} for index, name in enumerate(classes) if index]
    return {"images": images, "annotations": annotations, "categories": categories}


def _yolo_lines(labels: np.ndarray) -> Iterator[str]:
    height, width = labels.shape
    for part in _parts(labels):
        outer, *holes = part.outlines()
        shares = join_holes(outer, holes) / (width, height)
        yield f"{part.class_index - 1} {' '.join(f'{share:.{_DIGITS}g}' for share in shares.ravel().tolist())}\n"


def _as_feature(part: _Part, classes: Sequence[str]) -> dict[str, Any]:
    rings = [np.concatenate([ring, ring[:1]]).tolist() for ring in part.outlines()]
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": rings},
        "properties": {"objectType": "annotation", "classification": {"name": classes[part.class_index]}},
    }
