"""The lists of CONTRIBUTING.md are complete: a dummy of each kind, added at exactly the listed places, works."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent

SEGMENTER = '''
"""A single convolution."""

from torch import Tensor, nn

from guidino_cli.models.base import Segmenter


class Dummy(Segmenter):
    """One map, one convolution."""

    stride = 1

    def __init__(self, *, num_classes: int, width: int = 4) -> None:
        super().__init__()
        self.encoder, self.head = nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, num_classes, 1)

    def encode(self, image: Tensor, dense: list[Tensor]) -> list[Tensor]:
        return [self.encoder(image)]

    def decode(self, features: list[Tensor], size_hw: tuple[int, int]) -> list[Tensor]:
        return [self.head(features[-1])]
'''
SEGMENTER_ROW = """
    "dummy": SegmenterInfo(
        "dummy:Dummy", "Dummy Net", "Nobody 2026", "One convolution.", "Never.", size=ModelSize(46, 46, 1)
    ),
"""
PRESET = """
description: One convolution
model:
  segmenter: {name: dummy}
  backbone: {name: dummy}
  guide: {name: dummy, at: features}
data: {image_size: 16, augment: none}
train: {epochs: 1, batch_size: 2, loss: {dice: 1, dummy: 0.5, guide: 0.1}}
"""
BACKBONE = '''
"""Average colours."""

import torch.nn.functional as F
from torch import Tensor

from guidino_cli.models.base import Backbone


class Dummy(Backbone):
    """The mean colour of every cell."""

    channels, level_channels, stride = 3, [3], 8

    def __init__(self, cell: int) -> None:
        super().__init__()
        self.cell, self.identity = cell, {"weights": "none", "sha256": "0" * 64}
        self.freeze()

    def forward(self, image: Tensor) -> list[Tensor]:
        return [F.avg_pool2d(image.expand(-1, 3, -1, -1), self.cell)]


def load_dummy(*, cell: int = 8) -> Dummy:
    """The backbone of that cell size."""
    return Dummy(cell)
'''
GUIDE = '''

class Dummy(Guide):
    """A learned shade of grey."""

    def __init__(self, *, channels: int, maps: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(channels, maps, 1)

    def forward(self, dense: Tensor) -> Tensor:
        return self.layer(dense).sigmoid()
'''
LOSS = '''

def dummy_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Mean square of the logits."""
    return logits.square().mean()
'''
METRIC = '''

def jaccard_distance(counts: ConfusionCounts) -> float:
    """1 - IoU."""
    return 1 - iou(counts)
'''
LAYOUT = '''

def detect_dummy(source: Path) -> DiscoveredDataset | None:
    """scans/ beside outlines/, with the same names."""
    scans, outlines = source / "scans", source / "outlines"
    if not (scans.is_dir() and outlines.is_dir()):
        return None
    matches = match_masks(find_images(scans), find_images(outlines))
    return merge_folders("dummy", "scans/ and outlines/", [MatchedFolders(matches, None, "")])
'''
COMMAND = '''
"""Greet someone."""


def run(name: str) -> None:
    """Print a greeting."""
    print(f"Hello, {name}")
'''
COMMAND_OPTIONS = '''

def greet(name: Annotated[str, typer.Argument(metavar="NAME", help="Who is greeted.")]) -> None:
    """Greet someone.

    Example: guidino greet Ada
    """
    from guidino_cli.commands import dummy as command

    command.run(name)
'''


@dataclass(frozen=True)
class Edit:
    """A new file (without `after`), lines inserted after a line that begins so, or lines appended (`after` is "")."""

    path: str
    text: str
    after: str | None = None

    def apply(self, root: Path) -> None:
        path = root / self.path
        if self.after is None:
            assert not path.exists()
            path.write_text(self.text.lstrip("\n"), encoding="utf-8")
            return
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        place = len(lines) if not self.after else 1 + next(i for i, x in enumerate(lines) if x.startswith(self.after))
        lines.insert(place, self.text.lstrip("\n") if self.after else self.text)
        path.write_text("".join(lines), encoding="utf-8")


EDITS = {
    "Segmenter": [
        Edit("guidino_cli/models/segmenters/dummy.py", SEGMENTER),
        Edit("guidino_cli/models/segmenters/registry.py", SEGMENTER_ROW, "SEGMENTER_INFO: "),
        Edit("presets/kvasir-plain-dummy.yaml", PRESET),
    ],
    "Backbone": [
        Edit("guidino_cli/models/backbones/dummy.py", BACKBONE),
        Edit(
            "guidino_cli/models/__init__.py",
            '    "dummy": "guidino_cli.models.backbones.dummy:load_dummy",\n',
            "BACKBONES = ",
        ),
    ],
    "Guide": [
        Edit("guidino_cli/models/guides.py", GUIDE, ""),
        Edit("guidino_cli/models/__init__.py", '    "dummy": "guidino_cli.models.guides:Dummy",\n', "GUIDES = "),
    ],
    "Loss": [
        Edit("guidino_cli/losses.py", LOSS, ""),
        Edit("guidino_cli/losses.py", '    "dummy": "guidino_cli.losses:dummy_loss",\n', "PIXEL_LOSSES = "),
    ],
    "Metric": [
        Edit("guidino_cli/metrics/overlap.py", METRIC, ""),
        Edit(
            "guidino_cli/metrics/__init__.py", '    Metric("dummy", "Dummy", "error", False, "1 - IoU"),\n', "_ALL = "
        ),
        Edit("guidino_cli/evaluation/scoring.py", '    "dummy": overlap.jaccard_distance,\n', "_FROM_COUNTS = "),
    ],
    "Layout of `prepare`": [
        Edit("guidino_cli/preparation/public_layouts.py", LAYOUT, ""),
        Edit("guidino_cli/preparation/layouts.py", '    {"dummy": public_layouts.detect_dummy},\n', "_RANKS"),
        Edit("guidino_cli/preparation/layouts.py", '    "dummy": "scans/ and outlines/",\n', "_DESCRIPTIONS"),
    ],
    "Command": [
        Edit("guidino_cli/commands/dummy.py", COMMAND),
        Edit("guidino_cli/cli/tools.py", COMMAND_OPTIONS, ""),
        Edit("guidino_cli/cli/__init__.py", 'app.command(short_help="Greet someone.")(tools.greet)\n', "app.command("),
    ],
}

Guidino = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def guidino_copy(tmp_path_factory: pytest.TempPathFactory) -> Guidino:
    """The command line of a copy of the package to which all dummies were added."""
    root = tmp_path_factory.mktemp("copy")
    for folder in ("guidino_cli", "presets"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for edits in EDITS.values():
        for edit in edits:
            edit.apply(root)

    def call(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "guidino_cli", *map(str, arguments)],
            cwd=root,
            env=os.environ | {"PYTHONPATH": str(root), "CUDA_VISIBLE_DEVICES": ""},
            capture_output=True,
            text=True,
        )

    return call


def listed_places(kind: str) -> list[str]:
    """The files of the numbered list of a kind, up to its documentation and tests."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.partition(f"### {kind}\n")[2].partition("\n#")[0].partition("\nThen ")[0]
    return [path.replace("NAME", "dummy") for path in re.findall(r"^\d+\. `([^`]+)`", section, re.M)]


@pytest.mark.parametrize("kind", EDITS)
def test_a_dummy_is_added_at_the_listed_places_only(kind: str) -> None:
    assert listed_places(kind) == list(dict.fromkeys(edit.path for edit in EDITS[kind]))


def test_every_list_has_a_dummy() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## How to add a ...")[2]
    assert re.findall(r"^### (.+)$", text, re.M) == list(EDITS)


def test_the_segmenter_is_listed_with_its_size(guidino_copy: Guidino) -> None:
    rows = json.loads(guidino_copy("models", "--json").stdout)["networks"]
    assert {"name": "dummy", "title": "Dummy Net", "trainable": 46} in [
        {key: row[key] for key in ("name", "title", "trainable")} for row in rows
    ]
    assert "kvasir-plain-dummy" in guidino_copy("presets", "kvasir").stdout


def test_segmenter_backbone_guide_and_loss_train_together(
    guidino_copy: Guidino, make_data: Callable[..., Path], tmp_path: Path
) -> None:
    data, run = make_data(train=2, val=1), tmp_path / "run"
    trained = guidino_copy("train", "--preset", "kvasir-plain-dummy", "--data", data, "-o", run)
    assert trained.returncode == 0, trained.stderr
    row = json.loads((run / "history.jsonl").read_text().splitlines()[0])
    assert {"dice", "dummy", "guide", "loss", "val_dice"} <= row.keys()
    assert json.loads((run / "run.json").read_text())["backbone"]["weights"] == "none"


def test_the_metric_is_a_column_of_the_report(guidino_copy: Guidino, tmp_path: Path) -> None:
    for folder, rows in (("truth", 4), ("predicted", 2)):
        mask = np.zeros((8, 8), dtype=np.uint8)
        mask[:rows] = 255
        (tmp_path / folder).mkdir()
        Image.fromarray(mask).save(tmp_path / folder / "a.png")
    done = guidino_copy(
        "evaluate", tmp_path / "predicted", tmp_path / "truth", "--metrics", "dice,dummy", "-o", tmp_path / "report"
    )
    assert done.returncode == 0, done.stderr
    (row,) = csv.DictReader((tmp_path / "report" / "per_case.csv").read_text().splitlines())
    assert float(row["dummy"]) == pytest.approx(0.5)


def test_the_layout_is_detected(guidino_copy: Guidino, tmp_path: Path) -> None:
    for folder in ("scans", "outlines"):
        (tmp_path / "source" / folder).mkdir(parents=True)
        for i in range(10):
            mask = np.zeros((16, 16), dtype=np.uint8)
            mask[4 : 8 + i % 4] = 255
            Image.fromarray(mask + (i if folder == "scans" else 0)).save(tmp_path / "source" / folder / f"{i}.png")
    done = guidino_copy("prepare", tmp_path / "source", "-o", tmp_path / "data")
    assert done.returncode == 0, done.stderr
    assert re.search(r"layout\s+dummy", done.stdout)


def test_the_command_has_help_and_runs(guidino_copy: Guidino) -> None:
    assert "Greet someone." in guidino_copy("--help").stdout
    assert "Example: guidino greet Ada" in guidino_copy("greet", "--help").stdout
    assert guidino_copy("greet", "Ada").stdout == "Hello, Ada\n"
