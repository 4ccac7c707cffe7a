"""Run folders written by commit 45086b3 (format 1) stay readable: prediction, evaluation and resuming.

The folders were made by that commit: a guided U-Net of width 2 on 48x48 px crops of the example data, and a plain one
interrupted after 30 of 40 epochs. `expected/` holds the masks that it predicted.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

FILES = Path(__file__).parent / "run_45086b3"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A copy of the old runs and their data, at a new place."""
    folder = tmp_path / "old"
    shutil.copytree(FILES, folder)
    for name in ("config.yaml", "run.json"):
        for path in folder.glob(f"*/{name}"):
            path.write_text(path.read_text(encoding="utf-8").replace("DATA", str(folder / "data")), encoding="utf-8")
    return folder


def test_an_old_run_predicts_the_masks_it_predicted_then(guidino: Callable, old: Path) -> None:
    done = guidino("predict", old / "guided", old / "data", "--split", "all", "-o", old / "masks", "--offline")
    assert done.code == 0, done.stderr
    expected = sorted((old / "expected").glob("*.png"))
    assert len(expected) == 8
    for path in expected:
        now, then = (np.asarray(Image.open(folder / path.name)) for folder in (old / "masks", old / "expected"))
        # Another processor rounds in another order, which may move a pixel whose two classes score the same.
        assert (now != then).sum() <= 2, path.name


def test_an_old_interrupted_run_is_resumed_to_the_scores_it_would_have_reached(guidino: Callable, old: Path) -> None:
    done = guidino("train", "--resume", "-o", old / "interrupted")
    assert done.code == 0, done.stderr
    assert "keeps its augmentation, data.augment=nnunet-0.1" in done.stderr
    rows = [json.loads(line) for line in (old / "interrupted" / "history.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == list(range(1, 41))
    # What the commit itself reached when it resumed; in between lie 20 steps whose rounding differs by processor. With
    # nnU-Net 2.8.1's augmentation instead of the run's own, the loss is 0.6474.
    assert rows[-1]["val_dice"] == pytest.approx(0.97606, abs=0.01)
    assert rows[30]["loss"] == pytest.approx(0.6071, rel=0.05)
