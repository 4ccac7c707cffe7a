"""Segment an image with an exported network, without guidino and without torch.

    guidino export runs/kvasir -o kvasir.onnx
    python onnx_predict.py kvasir.onnx image.png mask.png

Needs numpy, Pillow and onnxruntime. kvasir.onnx.json, beside the network, holds the steps. Images of more than 8
bits are refused.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps


def main(network: Path, image: Path, mask: Path) -> None:
    """Write the mask of an image: class indices, in the size of the image."""
    import onnxruntime

    facts = json.loads(network.with_name(f"{network.name}.json").read_text(encoding="utf-8"))
    session = onnxruntime.InferenceSession(str(network), providers=["CPUExecutionProvider"])
    Image.fromarray(segment(session, facts, image)).save(mask)


def segment(session, facts: dict, image: Path) -> np.ndarray:
    """Class indices (H, W) of an image; `session` has the method `run` of an onnxruntime.InferenceSession."""
    steps = {step["step"]: step for step in facts["recipe"]}
    pixels = decode(image)
    small = resize(pixels, steps["resize"])
    values = (small.astype(np.float32) / steps["scale"]["divide_by"]).transpose(2, 0, 1)
    logs = slide(session, facts["input"], values, steps)
    probabilities = np.exp(logs - logs.max(axis=0))
    probabilities /= probabilities.sum(axis=0)
    maps = restore(probabilities.astype(np.float32), pixels.shape[:2])
    return maps.argmax(axis=0).astype(np.uint8)


def decode(path: Path) -> np.ndarray:
    """(H, W, 3) of 8 bits."""
    with Image.open(path) as file:
        if file.mode.startswith(("I", "F")):
            raise SystemExit(f"{path}: has more than 8 bits")
        return np.asarray(ImageOps.exif_transpose(file).convert("RGB"))


def resize(pixels: np.ndarray, step: dict) -> np.ndarray:
    """The image in the network's grid."""
    height, width = pixels.shape[:2]
    side, mode = step["side"], step["mode"]
    if mode == "stretch":
        size = (side, side)
    elif mode == "longer":
        factor = side / max(height, width)
        size = (max(1, round(height * factor)), max(1, round(width * factor)))
    elif mode == "shorter":
        factor = side / min(height, width)
        size = (max(side, round(height * factor)), max(side, round(width * factor)))
    else:
        size = (height, width)
    if size == (height, width):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BILINEAR))


def slide(session, inputs: dict, values: np.ndarray, steps: dict) -> np.ndarray:
    """Weighted mean of the log-probabilities of all windows and flips: (K, H, W)."""
    side, average = steps["windows"]["side"], steps["average"]
    height, width = values.shape[1:]
    low, high = (max(0, steps["pad"]["at_least"] - length) for length in (height, width))
    padded = np.pad(values, ((0, 0), (0, low), (0, high)), constant_values=steps["pad"]["value"])
    line = np.exp(-((np.arange(side) - (side - 1) / 2) ** 2) / (2 * average["sigma"] ** 2))
    weight = np.maximum(np.outer(line, line), average["minimum_weight"])
    sums, weights = 0.0, np.zeros(padded.shape[1:])
    for top in corners(height, steps["windows"]):
        for left in corners(width, steps["windows"]):
            place = (slice(top, top + side), slice(left, left + side))
            logs = flipped_mean(
                session, inputs, padded[:, *place], steps["flips"]["axes"], average["smallest_probability"]
            )
            if np.isscalar(sums):
                sums = np.zeros((len(logs), *padded.shape[1:]))
            sums[:, *place] += logs * weight
            weights[place] += weight
    return (sums / weights)[:, :height, :width]


def corners(size: int, step: dict) -> list[int]:
    """First rows or columns of the windows along an axis."""
    last = max(0, size - step["side"])
    count = math.ceil(last / step["stride_at_most"]) + 1
    return [round(last * i / (count - 1)) if count > 1 else 0 for i in range(count)]


def flipped_mean(session, inputs: dict, window: np.ndarray, flips: list, smallest: float) -> np.ndarray:
    """Mean log-probabilities (K, side, side) of a window over its flips."""
    logs = []
    for names in flips:
        axes = tuple({"row": -2, "column": -1}[name] for name in names)
        batch = np.zeros((inputs["shape"][0] or 1, *inputs["shape"][1:]), dtype=np.float32)
        batch[0] = np.flip(window, axes)
        probabilities = session.run(["probabilities"], {inputs["name"]: batch})[0][0]
        logs.append(np.flip(np.log(np.maximum(probabilities, smallest)), axes))
    return np.mean(logs, axis=0)


def restore(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Maps (K, h, w) in the grid of the image, (K, H, W)."""
    if maps.shape[1:] == size:
        return maps
    if size[0] < maps.shape[1]:
        # Pillow widens its triangle where it shrinks.
        return np.stack(
            [np.asarray(Image.fromarray(item).resize(size[::-1], Image.Resampling.BILINEAR)) for item in maps]
        )
    for axis in (1, 2):
        source, target = maps.shape[axis], size[axis - 1]
        position = np.clip((np.arange(target) + 0.5) * (source / target) - 0.5, 0, source - 1)
        before = np.floor(position).astype(int)
        after = np.minimum(before + 1, source - 1)
        share = (position - before).astype(np.float32)
        share = share[None, :, None] if axis == 1 else share[None, None, :]
        maps = maps.take(before, axis) * (1 - share) + maps.take(after, axis) * share
    return maps


if __name__ == "__main__":
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    main(*map(Path, sys.argv[1:]))
