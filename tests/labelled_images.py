"""Images of a known size, for label files."""

from pathlib import Path

import numpy as np
from PIL import Image


def save_images(folder: Path, *names: str, size: tuple[int, int] = (8, 6)) -> Path:
    """Images of width 8 and height 6 that all differ."""
    random = np.random.default_rng(sum(map(ord, "".join(names))))
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)).save(path)
    return folder
