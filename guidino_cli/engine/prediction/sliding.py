"""Sliding-window inference that yields finished rows or slices, so memory does not grow with their number."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from guidino_cli.config import RunConfig
from guidino_cli.device_transfer import to_device
from guidino_cli.engine.devices import autocast
from guidino_cli.engine.feature_cache.cache import FeatureCache
from guidino_cli.engine.prediction.accumulation import Band, BandAccumulator
from guidino_cli.engine.prediction.network import Network
from guidino_cli.errors import ConfigError
from guidino_cli.models.composed import GetOrCompute

Axes = tuple[int, ...]


def _subsets(axes: Axes) -> list[Axes]:
    """All subsets of axes, such as (), (-1,), (-2,), (-2, -1): the flips of windows that are averaged."""
    found: list[Axes] = [()]
    for axis in reversed(axes):
        found += [(axis, *other) for other in found]
    return found


def sees_padding(config: RunConfig) -> bool:
    """Whether the network of a run is shown images padded to squares.

    Otsu's threshold and the filter of `guided-filter` are those of a whole image, so with data.resize=longer it sees
    each image without padding, in training from few labels as in prediction.
    """
    return not (config.data.resize == "longer" and config.model.segmenter.name == "guided-filter")


@dataclass(frozen=True)
class Window:
    """Sliding-window settings.

    Attributes:
        size: Side of a window in pixels of the network's grid.
        overlap: Fraction of a window that the next one covers again, in [0, 1).
        mirror: Average over the flips along `mirror_axes` (test-time augmentation).
        batch_size: Windows per forward pass.
        mirror_backbone: "each" runs the backbone on every flip; "once" runs it on the unflipped window only and flips
            its features. A quarter of the work, but not the same result: a ViT is not symmetric.
        mirror_axes: -2 for rows, -1 for columns.
        are_affinities: Whether the network learnt affinities, each of which is a probability by itself.
        precision: "no" (full), "bf16" or "fp16" of the network; sums and probabilities are float32.
        pads: Whether an image smaller than a window is padded to it; see `sees_padding`.
    """

    size: int
    overlap: float = 0.5
    mirror: bool = True
    batch_size: int = 4
    mirror_backbone: Literal["each", "once"] = "each"
    mirror_axes: Axes = (-2, -1)
    are_affinities: bool = False
    precision: str = "no"
    pads: bool = True

    @classmethod
    def from_config(cls, config: RunConfig, *, mirror: bool | None = None, precision: str = "no") -> "Window":
        """The windows of a run on images, in a resolved precision; `mirror` replaces `predict.mirror`.

        Raises:
            ConfigError: `predict.mirror` names an axis that images do not have.
        """
        settings = config.predict
        axes = mirror_axes(config.mirror if mirror is None else mirror, "yx")
        return cls(
            config.data.image_size,
            settings.overlap,
            bool(axes),
            settings.batch_size,
            settings.mirror_backbone,
            axes or (-2, -1),
            precision=precision,
            pads=sees_padding(config),
        )

    @property
    def mirror_record(self) -> bool | list[int]:
        """For records: whether all flips are averaged, or the axes if it is some of them."""
        return self.mirror if self.mirror_axes == (-2, -1) else list(self.mirror_axes)

    @property
    def sides(self) -> tuple[int, ...]:
        """Height and width of a window."""
        return self.size, self.size

    @property
    def flip_axes(self) -> list[Axes]:
        """Axes of each flip; the first one is none."""
        return _subsets(self.mirror_axes) if self.mirror else [()]

    @property
    def flips(self) -> int:
        """Number of forward passes per window."""
        return len(self.flip_axes)


@dataclass(frozen=True)
class PatchWindow:
    """Sliding-window settings of a network that takes patches of volumes.

    Attributes:
        sides: Slices, rows and columns of a patch.
        overlap: See `Window`.
        mirror_axes: Axes whose flips are averaged, of -3, -2 and -1; () for none.
        batch_size: See `Window`.
        mirror_backbone: See `Window`.
        are_affinities: See `Window`.
        precision: See `Window`.
    """

    sides: tuple[int, ...]
    overlap: float = 0.5
    mirror_axes: Axes = (-3, -2, -1)
    batch_size: int = 4
    mirror_backbone: Literal["each", "once"] = "each"
    are_affinities: bool = False
    precision: str = "no"

    @property
    def mirror_record(self) -> bool | list[int]:
        """See `Window`."""
        return bool(self.mirror_axes) if len(self.mirror_axes) in (0, len(self.sides)) else list(self.mirror_axes)

    @property
    def flip_axes(self) -> list[Axes]:
        """Axes of each flip; the first one is none."""
        return _subsets(self.mirror_axes)

    @property
    def flips(self) -> int:
        """Number of forward passes per window."""
        return len(self.flip_axes)


def mirror_axes(setting: bool | Sequence[str], names: str) -> Axes:
    """The axes of a window that `predict.mirror` names.

    Args:
        setting: True for all, or some of x, y and z.
        names: Names of the axes of a window, such as "yx".

    Returns:
        Negative numbers of axes in their order, such as (-2, -1).

    Raises:
        ConfigError: A window has no axis of that name.
    """
    wanted = (names if setting else "") if isinstance(setting, bool) else setting
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise ConfigError(
            f"predict.mirror names {unknown[0]}, but the network sees only {' and '.join(sorted(names))} at once; "
            f"give some of [{', '.join(sorted(names))}]"
        )
    return tuple(number - len(names) for number, name in enumerate(names) if name in wanted)


ReadWindow = Callable[[Any], Tensor]
"""Reads the window (C, *sides) whose first corner is (row, column) or (slice, row, column), padded outside."""


@torch.inference_mode()
def segment_bands(
    model: Network,
    size: Sequence[int],
    read_window: ReadWindow,
    window: Window | PatchWindow,
    *,
    cache: FeatureCache | None = None,
    name: str = "",
) -> Iterator[Band]:
    """Segment an image or a volume along its first axis, holding only what a later window may still overlap.

    Logits of overlapping windows are averaged with Gaussian weights (sigma an eighth of the window), as nnU-Net does.

    Args:
        model: In evaluation mode.
        size: (H, W) of an image or (D, H, W) of a volume, in the network's grid.
        read_window: Reads a window of it.
        window: How to cover it.
        cache: Backbone features of images that will be segmented again.
        name: Identifies the image in the cache.

    Yields:
        Bands from the first row or slice to the last, without gaps.
    """
    device = model.mean.device
    weight = _gaussian_weight(window.sides, device)
    rows = BandAccumulator(size, window.sides, device, are_affinities=window.are_affinities)
    all_corners = window_corners(size, window)
    for start in range(0, len(all_corners), window.batch_size):
        corners = all_corners[start : start + window.batch_size]
        yield from rows.finish_above(corners[0][0])
        crops = to_device(torch.stack([read_window(corner) for corner in corners]), device)
        keys = [(name, window.sides[-1], corner) for corner in corners]
        logits, guide = predict_with_flips(model, crops, window, cache=cache, keys=keys)
        for i, corner in enumerate(corners):
            rows.add(corner, logits[i], None if guide is None else guide[i], weight)
    yield from rows.finish_above(size[0])


def window_corners(size: Sequence[int], window: Window | PatchWindow) -> list[tuple[int, ...]]:
    """First corners of windows that cover an image or volume, evenly spread, at most (1 - overlap) of a side apart."""
    sides = zip(size, window.sides, strict=True)
    return list(product(*(_window_starts(length, side, window.overlap) for length, side in sides)))


def count_windows(size: Sequence[int], window: Window | PatchWindow) -> int:
    """Number of `window_corners`, without listing them: a damaged header may claim billions."""
    sides = zip(size, window.sides, strict=True)
    return math.prod(_count_starts(length, side, window.overlap) for length, side in sides)


def _count_starts(length: int, side: int, overlap: float) -> int:
    return math.ceil(max(0, length - side) / max(1, math.floor(side * (1 - overlap)))) + 1


def _window_starts(length: int, side: int, overlap: float) -> list[int]:
    count, last = _count_starts(length, side, overlap), length - side
    return [0] if count == 1 else [round(last * i / (count - 1)) for i in range(count)]


def predict_with_flips(
    model: Network,
    crops: Tensor,
    window: Window | PatchWindow,
    *,
    cache: FeatureCache | None = None,
    keys: Sequence[tuple[object, ...]] = (),
) -> tuple[Tensor, Tensor | None]:
    """Mean logits (B, K, ...) and guide (B, G, ...) of a batch of windows over the flips, each flipped back."""
    logits: list[Tensor] = []
    guides: list[Tensor] = []
    unflipped = _UnflippedFeatures()
    for axes in window.flip_axes:
        seen = crops.flip(axes) if axes else crops
        known = None if cache is None else partial(cache.get_or_compute, [(*key, axes) for key in keys], pixels=seen)
        get_or_compute = partial(unflipped.get_or_compute, axes, known) if window.mirror_backbone == "once" else known
        with autocast(crops.device, window.precision):
            prediction = model(seen, get_or_compute=get_or_compute)
        logits.append(prediction.logits[0].float().flip(axes) if axes else prediction.logits[0].float())
        if prediction.guide is not None:
            mode = "bilinear" if crops.ndim == 4 else "trilinear"
            guide = F.interpolate(prediction.guide.float(), size=crops.shape[2:], mode=mode, align_corners=False)
            guides.append(guide.flip(axes) if axes else guide)
    return torch.stack(logits).mean(dim=0), torch.stack(guides).mean(dim=0) if guides else None


class _UnflippedFeatures:
    """Features of unflipped windows, flipped along with them; the first call must be for the unflipped windows."""

    def __init__(self) -> None:
        self.maps: list[Tensor] = []

    def get_or_compute(
        self, axes: tuple[int, ...], known: GetOrCompute | None, compute: Callable[[], list[Tensor]]
    ) -> list[Tensor]:
        if not axes:
            self.maps = compute() if known is None else known(compute)
            return self.maps
        return [item.flip(axes) for item in self.maps]


def _gaussian_weight(sides: Sequence[int], device: torch.device) -> Tensor:
    """Weights of these sides, 1 in the middle; clamped at the corners so that dividing by them is stable."""
    weight = torch.ones((), device=device)
    for side in sides:
        x = torch.arange(side, device=device, dtype=torch.float32) - (side - 1) / 2
        weight = weight[..., None] * torch.exp(-(x**2) / (2 * (side / 8) ** 2))
    return weight.clamp(min=1e-4)
