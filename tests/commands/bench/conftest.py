"""A tiny recipe of all kinds of tasks, on data that take seconds."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import yaml
from PIL import Image
from scipy.ndimage import gaussian_filter


@pytest.fixture
def chest(tmp_path: Path) -> Path:
    """Sixty pictures of two classes that overlap in brightness, with a split."""
    generator = np.random.default_rng(0)
    lines = ["image,label,split"]
    (tmp_path / "chest").mkdir()
    for number in range(60):
        level = 110 + 12 * (number % 2)
        pixels = generator.integers(level - 90, level + 90, (28, 28), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "chest" / f"{number:02d}.png")
        lines.append(f"chest/{number:02d}.png,{('normal', 'ill')[number % 2]},{'test' if number % 3 == 2 else 'train'}")
    table = tmp_path / "chest.csv"
    table.write_text("\n".join(lines) + "\n")
    return table


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Three pairs of small volumes with labels, each moved by two voxels."""
    lines = ["name,fixed,moving,fixed_mask,moving_mask"]
    (tmp_path / "pairs").mkdir()
    for number in range(3):
        noise = gaussian_filter(np.random.default_rng(number).normal(size=(20, 22, 24)), 2)
        moving = (128 + 60 * noise / np.abs(noise).max()).astype(np.uint8)
        mask = np.zeros(moving.shape, dtype=np.uint8)
        mask[6:14, 6:14, 6:14] = 1
        parts = {"moving": moving, "fixed": np.roll(moving, 2, axis=1), "moving_mask": mask}
        parts["fixed_mask"] = np.roll(mask, 2, axis=1)
        names = []
        for kind in ("fixed", "moving", "fixed_mask", "moving_mask"):
            name = f"{number}-{kind}.nii.gz"
            nibabel.save(nibabel.Nifti1Image(parts[kind], np.eye(4)), tmp_path / "pairs" / name)
            names.append(name)
        lines.append(",".join([str(number), *names]))
    table = tmp_path / "pairs" / "pairs.csv"
    table.write_text("\n".join(lines) + "\n")
    return table


@pytest.fixture
def small(other_dinov3_folder: Path) -> dict[str, str]:
    """A backbone of three narrow blocks."""
    return {"name": "dinov3", "weights": str(other_dinov3_folder)}


@pytest.fixture
def write_recipe(tmp_path: Path, small: dict[str, str]) -> Callable[..., Path]:
    """Write a recipe of tasks for the small backbone, or for others."""

    def write(tasks: dict[str, Any], *, backbones: Any = None, name: str = "recipe.yaml", **others: Any) -> Path:
        path = tmp_path / name
        path.write_text(yaml.safe_dump({"backbones": backbones or {"small": small}, "tasks": tasks, **others}))
        return path

    return write


@pytest.fixture
def read_bench() -> Callable[[Path], dict[str, Any]]:
    """Content of bench.json, with the tasks by their names."""

    def read(out: Path) -> dict[str, Any]:
        content = json.loads((out / "bench.json").read_text())
        return {task["name"]: task for task in content["tasks"]}

    return read
