"""Whether batch normalisation sees the images of one process or of all."""

from typing import Literal

import torch
from torch import nn

from guidino_cli.models.base import Segmenter


def is_shared(wanted: Literal["auto", True, False], *, device: torch.device, processes: int) -> bool:
    """Whether statistics are taken over all processes: "auto" is yes where several train on GPUs."""
    return processes > 1 and device.type == "cuda" if wanted == "auto" else wanted


def shared(segmenter: Segmenter) -> Segmenter:
    """The segmenter with batch normalisation over the images of all processes; weights and names stay."""
    converted: Segmenter = nn.SyncBatchNorm.convert_sync_batchnorm(segmenter)
    return converted
