"""`OpenVinoNetwork`: a network that OpenVINO runs, called as a `Model` is."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from guidino_cli.engine.openvino.packages import import_package
from guidino_cli.errors import WeightsError
from guidino_cli.models.composed import GetOrCompute
from guidino_cli.types import Prediction

INPUT, LOGITS, GUIDE = "image", "logits", "guide"


class OpenVinoNetwork:
    """A compiled network on the CPU, with as many threads as torch uses.

    What is not quantised is computed in full precision on every CPU: by itself OpenVINO takes bf16 where it is fast.

    Args:
        path: Its .xml file; the .bin file lies beside it.
        has_guide: Whether it has an output for the guide.
        rounds_only: Round the values of a quantised network to its 256 levels, but compute with them in full precision:
            without VNNI, sums of 8-bit products overflow, and are hardly faster.

    Raises:
        DependencyError: OpenVINO is missing.
        WeightsError: OpenVINO cannot read the file.
    """

    def __init__(self, path: Path, *, has_guide: bool, rounds_only: bool = False) -> None:
        openvino = import_package("openvino")
        self.has_guide = has_guide
        self.mean = torch.zeros(1)
        """On the device of the images."""
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            # Several processes would pin their threads to the same cores.
            "ENABLE_CPU_PINNING": False,
            **({"LP_TRANSFORMS_MODE": "NO"} if rounds_only else {}),
        }
        try:
            self._compiled: Any = openvino.Core().compile_model(str(path), "CPU", settings)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[-160:]
            raise WeightsError(
                f"{path}: OpenVINO {openvino.__version__} cannot read it ({reason}); export the run again with it"
            ) from error

    def __call__(self, image: Tensor, *, get_or_compute: GetOrCompute | None = None) -> Prediction:
        """Segment windows (B, 3, H, W) in [0, 1] of the size that was exported; B is free.

        Raises:
            ValueError: Backbone features of elsewhere are to be used; the backbone is inside.
        """
        if get_or_compute is not None:
            raise ValueError("a compiled network computes its backbone's features itself")
        outputs = self._compiled({INPUT: image.contiguous().numpy()})
        logits = torch.from_numpy(outputs[LOGITS])
        return Prediction([logits], torch.from_numpy(outputs[GUIDE]) if self.has_guide else None)
