"""The state of every generator that a part of a run might draw from, to go on as if nothing had come between."""

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def random_state(device: torch.device) -> dict[str, Any]:
    """Of every generator that a part of the run might draw from; as tensors, since lists of numbers pickle slowly."""
    version, words, gauss = random.getstate()
    others: Any = np.random.get_state()  # noqa: NPY002 (others' code may draw from it)
    kind, keys, *rest = others
    return {
        "python": (version, torch.tensor(words), gauss),
        "numpy": (kind, torch.tensor(keys.astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "device": None if device.type == "cpu" else torch.get_device_module(device).get_rng_state(),
    }


def set_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    """Be as at the moment of `random_state`."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words.tolist()), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if state["device"] is not None and device.type != "cpu":
        torch.get_device_module(device).set_rng_state(state["device"])
