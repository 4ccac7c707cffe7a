"""From a network for OpenVINO in full precision to one in int8, by NNCF's quantisation after training."""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from os import devnull
from pathlib import Path
from typing import Any

import numpy as np
import torch

from guidino_cli.data.readers import read
from guidino_cli.engine.openvino.network import INPUT
from guidino_cli.engine.openvino.packages import import_package
from guidino_cli.engine.prediction.inference import pad_to_window
from guidino_cli.engine.prediction.predictor import DecodedImage, Member
from guidino_cli.engine.prediction.sliding import window_corners
from guidino_cli.errors import ConfigError
from guidino_cli.progress import is_terminal
from guidino_cli.types import Case

CALIBRATION_IMAGES = 64
"""Images on which the ranges of all activations are measured."""


def choose_evenly(cases: Sequence[Case], count: int = CALIBRATION_IMAGES) -> list[Case]:
    """`count` cases from the first to the last, or all if there are no more."""
    if len(cases) <= count:
        return list(cases)
    return [cases[round(place)] for place in np.linspace(0, len(cases) - 1, count)]


def quantize_network(source: Path, target: Path, windows: Sequence[np.ndarray]) -> None:
    """Write a network in int8: matrix products and convolutions of 8-bit numbers, the rest in full precision.

    Weights take all 8 bits: 7, with which sums overflow on no CPU, changed twice as many pixels of polyp masks. Where
    sums would overflow, `OpenVinoNetwork` computes in full precision.

    Args:
        source: The .xml file of the network in full precision.
        target: The .xml file to write.
        windows: Ranges are measured on these; each (1, 3, side, side) in [0, 1].

    Raises:
        ConfigError: NNCF cannot quantise the network.
        DependencyError: OpenVINO or NNCF is missing.
    """
    openvino, nncf = import_package("openvino"), import_package("nncf")
    # As it does for transformers: attention is kept from the quantisation that harms it, and outliers are smoothed.
    kind = nncf.ModelType.TRANSFORMER
    advanced = nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.DISABLE)
    try:
        with _quiet(nncf):
            quantized: Any = nncf.quantize(
                openvino.Core().read_model(str(source)),
                nncf.Dataset([{INPUT: window} for window in windows]),
                preset=nncf.QuantizationPreset.MIXED,
                model_type=kind,
                subset_size=len(windows),
                advanced_parameters=advanced,
            )
    except (RuntimeError, nncf.errors.ValidationError, nncf.errors.InternalError) as error:
        reason = " ".join(str(error).split())[-160:]
        raise ConfigError(
            f"NNCF {nncf.__version__} cannot quantise the network ({reason}); leave out --int8"
        ) from error
    openvino.save_model(quantized, str(target), compress_to_fp16=False)


def cut_windows(cases: Sequence[Case], member: Member) -> list[np.ndarray]:
    """A window (1, 3, side, side) of each image as the network sees it; where, depends on its place in the list only.

    Raises:
        DataError: An image cannot be read.
    """
    generator = np.random.default_rng(0)
    side, windows = member.window.size, []
    with torch.inference_mode():
        for case in cases:
            image = member.preprocess(DecodedImage(*read(case.image)))
            corners = window_corners(image.shape[-2:], member.window)
            top, left = corners[generator.integers(len(corners))]
            window = pad_to_window(image, side)[None, :, top : top + side, left : left + side]
            windows.append(window.contiguous().numpy())
    return windows


@contextmanager
def _quiet(nncf: Any) -> Iterator[None]:
    """Progress bars of NNCF on stderr, and only for people; of its messages, errors only."""
    nncf.set_log_level(logging.ERROR)
    with open(devnull, "w") as nowhere, redirect_stdout(sys.stderr if is_terminal() else nowhere):
        yield
