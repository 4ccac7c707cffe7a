"""Time `evaluate` against other tools on the same masks, alternating, in one run; prints JSON.

python benchmarks/evaluate.py [--pairs 300] [--quick]

medpy is the reference and must be installed. MONAI, surface-distance and SciPy's distance transform are timed too if
they are installed, each with its own definition of the metrics (see results/evaluate.md).

Times are CPU seconds of the process (medians), because other work on the machine inflates wall time but hardly these;
only the gain of a second worker is wall time. Masks are synthetic: lesions (one wavy blob), crowded (many
blobs), vessels (thin lines), and an organ in a volume.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from math import exp, log
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from medpy.metric import binary as medpy
from PIL import Image
from scipy.ndimage import binary_erosion, distance_transform_edt, gaussian_filter

from guidino_cli.data.masks.rule import MaskRule
from guidino_cli.data.readers import read_labels
from guidino_cli.evaluation.cases import Pair, Truth
from guidino_cli.evaluation.masks import MaskReader
from guidino_cli.evaluation.types import Policy, ScoringConfig, Target
from guidino_cli.evaluation.workers import score_cases
from guidino_cli.metrics import compiled
from guidino_cli.metrics.surface import average_surface_distance, hausdorff95, surface_distances

Pair2 = tuple[np.ndarray, np.ndarray]
Peer = Callable[[np.ndarray, np.ndarray, tuple[float, ...]], tuple[float, float]]


def main() -> None:
    """Run all parts and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=300, help="PNG pairs in the folder part")
    parser.add_argument("--many", type=int, default=3000, help="pairs for comparing one worker with two; 0 skips this")
    parser.add_argument("--only", choices=("pairs", "folder"), help="measure only this part")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions and no 1024 px or 128x256x256 masks")
    options = parser.parse_args()
    content: dict[str, Any] = {
        "machine": {"cpus": os.cpu_count(), "processor": platform.processor(), "python": platform.python_version()},
        "load_average_at_start": os.getloadavg(),
        "compiled_kernel": compiled.load_kernel() is not None,
    }
    if options.only != "folder":
        content["pairs"] = measure_pairs(quick=options.quick)
        for key, is_volume in (("geometric_mean_2d", False), ("geometric_mean_volumes", True)):
            rows = [row for row in content["pairs"] if row["case"].startswith("organ") == is_volume]
            content[key] = {
                name: geometric_mean([row[name] for row in rows if name in row])
                for name in ("compiled", "numpy", *peers())
            }
    if options.only != "pairs":
        content["folder"] = measure_folder(options.pairs, options.many)
        content["first_result_s"] = measure_start()
    print(json.dumps(content, indent=1))


def measure_pairs(*, quick: bool) -> list[dict[str, Any]]:
    """Time HD95 and ASD of one pair relative to medpy's two calls; also the largest difference."""
    rows = []
    for name, (prediction, truth) in cases(quick=quick):
        spacing = (1.0,) * truth.ndim
        ways: dict[str, Callable[[], tuple[float, float]]] = {
            "medpy": lambda p=prediction, t=truth, s=spacing: (medpy.hd95(p, t, s), medpy.asd(p, t, s)),
            "numpy": lambda p=prediction, t=truth, s=spacing: without_kernel(p, t, s),
        }
        if compiled.load_kernel() is not None:
            ways["compiled"] = lambda p=prediction, t=truth, s=spacing: ours(p, t, s)
        expected = ways["medpy"]()
        off = max(float(abs(a - b)) for way in ways.values() for a, b in zip(way(), expected, strict=True))
        ways |= {name: lambda f=peer, p=prediction, t=truth, s=spacing: f(p, t, s) for name, peer in peers().items()}
        times = alternate(ways, rounds=2 if quick or truth.ndim == 3 else 5)
        ratios = {way: round(times["medpy"] / times[way], 1) for way in ways if way != "medpy"}
        row = {"case": name, "medpy_ms": round(times["medpy"] * 1e3, 2), **ratios, "largest_difference_to_medpy": off}
        rows.append(row)
        print(row, file=sys.stderr)
    return rows


def measure_folder(count: int, many_count: int) -> dict[str, Any]:
    """Time a folder of 512x512 PNG pairs, including reading."""
    with tempfile.TemporaryDirectory() as place:
        pairs = write_folder(Path(place), count)
        reader = MaskReader(MaskRule("nonzero", "benchmark", 2), frozenset({0, 255}))
        targets = (Target("foreground", (1,)),)
        config = ScoringConfig(targets, ("iou", "dice", "hd95", "asd"), Policy(), truth=reader, predictions=reader)
        files = [path for pair in pairs for path in (pair.truth.path, pair.prediction) if path is not None]
        few = pairs[: max(1, count // 10)]
        ways: dict[str, Callable[[], object]] = {
            "medpy_loop": lambda: [medpy_case(pair) for pair in few],
            "numpy": lambda: numpy_only(lambda: list(score_cases(pairs, config, workers=1))),
            "decode_only": lambda: [read_labels(path) for path in files],
        }
        if compiled.load_kernel() is not None:
            ways["compiled"] = lambda: list(score_cases(pairs, config, workers=1))
        times = alternate(ways, rounds=3)
        times["medpy_loop"] *= len(pairs) / len(few)
        result: dict[str, Any] = {
            "pairs": count,
            "ms_per_pair": {n: round(t / count * 1e3, 3) for n, t in times.items()},
        }
        for way in ("compiled", "numpy"):
            if way in times:
                result[f"{way}_vs_medpy_loop"] = round(times["medpy_loop"] / times[way], 1)
                result[f"{way}_vs_decode_only"] = round(times[way] / times["decode_only"], 2)
        if many_count:
            result["two_workers_vs_one"] = measure_workers(pairs * max(1, many_count // count), config)
        return result


def measure_workers(pairs: list[Pair], config: ScoringConfig) -> dict[str, float]:
    """Wall time of one worker and of two, including the start of the processes; the best of two runs each."""
    clock: dict[int, float] = {}
    for workers in (1, 2, 1, 2):
        start = time.perf_counter()
        list(score_cases(pairs, config, workers=workers))
        clock[workers] = min(clock.get(workers, float("inf")), time.perf_counter() - start)
    return {"pairs": len(pairs), "clock_ratio": round(clock[1] / clock[2], 2)}


def measure_start() -> dict[str, float]:
    """Time of the whole command for two pairs."""
    with tempfile.TemporaryDirectory() as place:
        pairs = write_folder(Path(place), 2)
        assert pairs[0].prediction is not None
        command = [
            sys.executable,
            "-m",
            "guidino_cli",
            "evaluate",
            pairs[0].prediction.parent,
            pairs[0].truth.path.parent,
        ]
        clock, cpu = [], []
        for _ in range(5):
            before, start = os.times(), time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            after = os.times()
            clock.append(time.perf_counter() - start)
            cpu.append(after.children_user + after.children_system - before.children_user - before.children_system)
        return {"clock_min": round(min(clock), 2), "cpu_min": round(min(cpu), 2)}


@cache
def peers() -> dict[str, Peer]:
    """Other tools that compute these metrics, if installed; one line on stderr for each that is not."""
    found: dict[str, Peer] = {"scipy_edt": scipy_edt}
    for name, module, peer in (("monai", "monai", monai), ("surface_distance", "surface_distance", surface_distance)):
        if find_spec(module) is None:
            print(f"{module} is not installed: left out", file=sys.stderr)
        else:
            found[name] = peer
    return found


def scipy_edt(prediction: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...]) -> tuple[float, float]:
    """A straightforward implementation: borders and two distance transforms of the whole image; medpy's definitions."""
    borders = [mask ^ binary_erosion(mask) for mask in (prediction, truth)]
    forward, backward = (
        distance_transform_edt(~borders[1 - side], sampling=spacing)[borders[side]] for side in range(2)
    )
    return float(np.percentile(np.concatenate((forward, backward)), 95)), float(forward.mean())


def monai(prediction: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...]) -> tuple[float, float]:
    """MONAI's two functions: the larger directed percentile, and the mean from prediction to truth."""
    import torch
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance

    masks = [torch.from_numpy(mask)[None, None] for mask in (prediction, truth)]
    hd95 = compute_hausdorff_distance(*masks, include_background=True, percentile=95, spacing=spacing)
    asd = compute_average_surface_distance(*masks, include_background=True, spacing=spacing)
    return float(hd95), float(asd)


def surface_distance(prediction: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...]) -> tuple[float, float]:
    """DeepMind's package: weighted by the area of the surface, at the corners of pixels; one pass for both metrics."""
    import surface_distance as peer

    distances = peer.compute_surface_distances(truth, prediction, spacing)
    return peer.compute_robust_hausdorff(distances, 95), peer.compute_average_surface_distance(distances)[1]


def ours(prediction: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...]) -> tuple[float, float]:
    """HD95 and ASD as `evaluate` computes them."""
    distances = surface_distances(prediction, truth, spacing)
    return hausdorff95(distances), average_surface_distance(distances)


def without_kernel(prediction: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...]) -> tuple[float, float]:
    """The same on a machine without a compiler."""
    with no_kernel():
        return ours(prediction, truth, spacing)


def numpy_only(work: Callable[[], object]) -> None:
    """Call a function as on a machine without a compiler."""
    with no_kernel():
        work()


@contextmanager
def no_kernel() -> Iterator[None]:
    """Pretend that nothing could be compiled."""
    real, compiled.load_kernel = compiled.load_kernel, lambda: None  # type: ignore[assignment]
    try:
        yield
    finally:
        compiled.load_kernel = real


def medpy_case(pair: Pair) -> tuple[float, ...]:
    """What a script with medpy does for one pair of PNG files."""
    assert pair.prediction is not None
    prediction, truth = (np.asarray(Image.open(path)) > 127 for path in (pair.prediction, pair.truth.path))
    return tuple(figure(prediction, truth) for figure in (medpy.dc, medpy.jc, medpy.hd95, medpy.asd))


def alternate(ways: dict[str, Callable[[], object]], *, rounds: int) -> dict[str, float]:
    """Median CPU seconds of each method, alternating, after one unmeasured run."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            start, calls = time.process_time(), 0
            while not calls or time.process_time() - start < 0.02:
                way()
                calls += 1
            if turn:
                times[name].append((time.process_time() - start) / calls)
    return {name: median(values) for name, values in times.items()}


def cases(*, quick: bool) -> Iterator[tuple[str, Pair2]]:
    """Pairs of masks by name."""
    for size in (256, 512) if quick else (256, 512, 1024):
        for name, make in (("lesion", lesions), ("crowded", crowded), ("vessels", vessels)):
            yield f"{name} {size}x{size}", make(size, seed=size)
    for shape in ((64, 128, 128),) if quick else ((64, 128, 128), (128, 256, 256)):
        yield f"organ {'x'.join(map(str, shape))}", organ(shape)


def lesions(size: int, *, seed: int) -> Pair2:
    """One wavy blob and a slightly different one."""
    generator = np.random.default_rng(seed)
    rows, columns = np.indices((size, size)) / size
    centre, phase = generator.uniform(0.4, 0.6, 2), generator.uniform(0, 6, 2)
    masks = []
    for shift, radius in ((0.0, 0.18), (0.015, 0.19)):
        y, x = rows - centre[0] - shift, columns - centre[1]
        angle = np.arctan2(y, x)
        edge = radius * (1 + 0.15 * np.sin(3 * angle + phase[0]) + 0.06 * np.sin(7 * angle + phase[1] + shift * 20))
        masks.append(np.hypot(y, x) < edge)
    return masks[0], masks[1]


def crowded(size: int, *, seed: int) -> Pair2:
    """Some hundred blobs, partly the same."""
    generator = np.random.default_rng(seed)
    base, other = (gaussian_filter(generator.normal(size=(size, size)), 6) for _ in range(2))
    return base > 0.02, 0.9 * base + 0.3 * other > 0.02


def vessels(size: int, *, seed: int) -> Pair2:
    """Thin lines, partly the same."""
    generator = np.random.default_rng(seed)
    base, other = (gaussian_filter(generator.normal(size=(size, size)), 8) for _ in range(2))
    width = 0.06 * base.std()
    return np.abs(base) < width, np.abs(base + 0.05 * other) < width


def organ(shape: tuple[int, int, int]) -> Pair2:
    """An ellipsoid of about 2.5 % of the volume and a slightly different one."""
    grid = np.stack([(index + 0.5) / size - 0.5 for index, size in zip(np.indices(shape), shape, strict=True)])
    return (grid**2).sum(axis=0) < 0.18**2, ((grid - 0.01) ** 2).sum(axis=0) < 0.185**2


def write_folder(place: Path, count: int) -> list[Pair]:
    """PNG pairs of 512x512: four lesions to one crowded mask."""
    pairs = []
    for index in range(count):
        masks = crowded(512, seed=index) if index % 5 == 4 else lesions(512, seed=index)
        paths = [place / side / f"{index:05}.png" for side in ("predictions", "truth")]
        for path, mask in zip(paths, masks, strict=True):
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(mask.astype(np.uint8) * 255).save(path)
        pairs.append(Pair(Truth(str(index), paths[1], (str(index),)), paths[0]))
    return pairs


def geometric_mean(values: list[float]) -> float | None:
    """Geometric mean; None without values."""
    return round(exp(sum(map(log, values)) / len(values)), 1) if values else None


if __name__ == "__main__":
    main()
