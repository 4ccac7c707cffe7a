"""What makes prediction faster, and by how much: configurations alternating in one run, as ratios in JSON.

    python benchmarks/predict.py [--rounds 3] [--threads 2] [--windows 4]

GuiDINO-W (`kvasir-nnwnet`) with the backbone that travels in a wheel, windows of 256 px, half overlapping, four flips:
every configuration predicts the same windows of one image, and its probabilities are compared with those of the first,
which is the straightforward one: fp32, one window and one flip at a time, every block of the backbone, weights as they
were trained.

Each configuration reports CPU seconds and wall seconds a window (the median over rounds), their ratio to the first,
and the largest difference of a probability. `peak_mb` is the peak of the whole process.
"""

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from guidino_cli.config import load_preset
from guidino_cli.engine.prediction.faster import fold_normalisation, prepare_for_prediction
from guidino_cli.engine.prediction.inference import segment_image
from guidino_cli.engine.prediction.sliding import Window, window_corners
from guidino_cli.models import build_model
from guidino_cli.models.composed import Model

_WINDOW = Window(256, overlap=0.5, mirror=True, batch_size=1)
_EMBEDDED = ["model.backbone.name=embedded"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--windows", type=int, default=4, help="1, 2, 4 or 16; 16 is an image of 529x622 px")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    image = torch.rand(3, *{1: (256, 256), 2: (256, 384), 4: (384, 384), 16: (529, 622)}[options.windows])
    print(json.dumps(measure(image, rounds=options.rounds, threads=options.threads), indent=2))


def measure(image: Tensor, *, rounds: int, threads: int) -> dict[str, object]:
    """All configurations in turn, round after round: a slow minute of the machine falls on all of them."""
    forms = configurations()
    expected = forms["straightforward"](image)
    differences = {name: float((form(image) - expected).abs().max()) for name, form in forms.items()}
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in forms}
    for _ in range(rounds):
        for name, form in forms.items():
            cpu, wall = time.process_time(), time.perf_counter()
            form(image)
            seconds[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    windows = len(window_corners((image.shape[1], image.shape[2]), _WINDOW))
    first = [statistics.median(pair[i] for pair in seconds["straightforward"]) for i in (0, 1)]
    return {
        "torch": torch.__version__,
        "threads": threads,
        "image": list(image.shape[1:]),
        "windows": windows,
        "passes": windows * _WINDOW.flips,
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "configurations": {name: _line(pairs, first, windows, differences[name]) for name, pairs in seconds.items()},
    }


def configurations() -> dict[str, Callable[[Tensor], Tensor]]:
    """Each predicts an image (3, H, W) and returns probabilities (2, H, W)."""
    trained, dropped, folded, fast = _model(None), _model([8]), _model([8]), _model([8])
    fold_normalisation(folded.segmenter)
    prepare_for_prediction(fast)
    once = replace(_WINDOW, mirror_backbone="once")
    return {
        "straightforward": lambda image: segment_image(trained, image, _WINDOW)[0],
        "blocks not needed dropped": lambda image: segment_image(dropped, image, _WINDOW)[0],
        "and normalisation folded": lambda image: segment_image(folded, image, _WINDOW)[0],
        "and channels last (what predict does), batches of 1": lambda image: segment_image(fast, image, _WINDOW)[0],
        "the same, batches of 4": lambda image: segment_image(fast, image, replace(_WINDOW, batch_size=4))[0],
        "the same, backbone once for four flips (not exact)": lambda image: segment_image(fast, image, once)[0],
    }


def _model(layers: list[int] | None) -> Model:
    """The same weights every time, with statistics of normalisation as after training."""
    config = load_preset("kvasir-nnwnet", _EMBEDDED)
    torch.manual_seed(0)
    model = build_model(config.model, num_classes=2, offline=True).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model if layers else _with_all_blocks(model)


def _with_all_blocks(model: Model) -> Model:
    """Compute the blocks behind the one that is looked at, too, as an unmodified network does."""
    from guidino_cli.models.backbones.embedded import load_embedded

    whole = load_embedded(layers=[8, 12])

    class Whole(nn.Module):
        def forward(self, image: Tensor) -> list[Tensor]:
            return whole(image)[:1]

    model.backbone = Whole()  # type: ignore[assignment]
    return model


def _line(pairs: list[tuple[float, float]], first: list[float], windows: int, difference: float) -> dict[str, object]:
    cpu, wall = (statistics.median(pair[i] for pair in pairs) for i in (0, 1))
    return {
        "cpu_seconds_a_window": round(cpu / windows, 3),
        "wall_seconds_a_window": round(wall / windows, 3),
        "times_as_fast_cpu": round(first[0] / cpu, 2),
        "times_as_fast_wall": round(first[1] / wall, 2),
        "largest_difference": float(f"{difference:.1e}"),
    }


if __name__ == "__main__":
    main()
