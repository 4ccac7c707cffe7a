"""The network and the steps of a MONAI bundle that `guidino export --monai-bundle` wrote; guidino is not needed.

In a bundle this file is scripts/segment.py, and examples/onnx_predict.py, which has the steps, is scripts/steps.py.
"""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from . import steps

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}


class Network(torch.nn.Module):
    """Probabilities (1, K, H, W) of an image (1, 3, H, W) in [0, 1], of the size that configs/metadata.json states."""

    def __init__(self, program: str) -> None:
        super().__init__()
        # Not a submodule: an exported program has no modes to switch.
        self._programs = [torch.export.load(program).module()]

    @torch.no_grad()
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self._programs[0](image)[0]

    def run(self, names: list[str], feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        """As onnxruntime's sessions have it."""
        return [self(torch.from_numpy(feeds["image"])).numpy()]


def segment_folder(network: Network, bundle_root: str, images: str, masks: str) -> None:
    """Write a mask of class indices, as PNG, for every image of a folder."""
    facts = json.loads(Path(bundle_root, "models", "model.pt2.json").read_text(encoding="utf-8"))
    paths = sorted(path for path in Path(images).iterdir() if path.suffix.lower() in _SUFFIXES)
    if not paths:
        raise SystemExit(f"{images}: no images; give the folder with --dataset_dir")
    names = [path.stem for path in paths]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SystemExit(f"{images}: several images are named {twice[0]}, and each needs a mask {twice[0]}.png; rename")
    if Path(masks).resolve() == Path(images).resolve():
        raise SystemExit(f"{masks}: holds the images, which masks would replace; give another --output_dir")
    Path(masks).mkdir(parents=True, exist_ok=True)
    for path in paths:
        Image.fromarray(steps.segment(network, facts, path)).save(Path(masks, f"{path.stem}.png"))
