"""`predict --format`: label files that `prepare` reads back as the same masks."""

from pathlib import Path

import numpy as np
import pytest
from labelled_images import save_images

from guidino_cli.commands import prepare
from guidino_cli.commands.prediction.jobs import PredictionJob
from guidino_cli.commands.prediction.label_files import require_format, write_label_files
from guidino_cli.data.image_writing import write_label_map
from guidino_cli.data.images import read_labels
from guidino_cli.errors import ConfigError
from guidino_cli.options.data import PrepareOptions
from guidino_cli.options.prediction import PredictOptions

CLASSES = ("background", "polyp", "tool")


def _labels(seed: int) -> np.ndarray:
    """Blots of two classes with holes, in each other and at the border."""
    from scipy import ndimage

    smooth = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(47, 61)), 2)
    return np.digitize(smooth, [0.02, 0.12]).astype(np.uint8)


@pytest.mark.parametrize("name", ["coco", "yolo", "geojson"])
def test_reading_label_files_again_gives_the_same_masks(tmp_path: Path, name: str) -> None:
    out = save_images(tmp_path / "out", "images/a.png", "images/b.v2.png", size=(61, 47))
    jobs = [PredictionJob(case, str(out / "images" / f"{case}.png")) for case in ("a", "b.v2")]
    masks = {job.name: _labels(seed) for seed, job in enumerate(jobs)}
    for case, labels in masks.items():
        write_label_map(out / f"{case}.png", labels)
    write_label_files(out, jobs, CLASSES, PredictOptions(format=name))
    for case in masks:
        # What remains are images and label files.
        (out / f"{case}.png").unlink()
    prepare.run(out, PrepareOptions(out=tmp_path / "data", layout=name, split="50/50/0"))
    for case, labels in masks.items():
        assert np.array_equal(read_labels(tmp_path / "data" / "masks" / f"{case}.png")[0], labels)


@pytest.mark.parametrize(("name", "place"), [("yolo", "labels/a.txt"), ("geojson", "geojson/a.geojson")])
def test_the_label_file_of_a_mask_that_is_gone_is_removed(tmp_path: Path, name: str, place: str) -> None:
    jobs = [PredictionJob(case, f"{case}.png") for case in "ab"]
    for job in jobs:
        write_label_map(tmp_path / f"{job.name}.png", _labels(0))
    write_label_files(tmp_path, jobs, CLASSES, PredictOptions(format=name))
    assert (tmp_path / place).is_file()
    # An image that can no longer be read: `predict` has removed its mask.
    (tmp_path / "a.png").unlink()
    write_label_files(tmp_path, jobs, CLASSES, PredictOptions(format=name))
    assert [path.stem for path in (tmp_path / place).parent.iterdir()] == ["b"]


def test_an_unknown_format_and_shards_are_refused() -> None:
    with pytest.raises(ConfigError, match="--format voc: expected coco, yolo, geojson"):
        require_format(PredictOptions(format="voc"))
    with pytest.raises(ConfigError, match="--format needs all masks"):
        require_format(PredictOptions(format="coco", shard="1/2"))
    require_format(PredictOptions())
