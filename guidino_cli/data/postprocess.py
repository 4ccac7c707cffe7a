"""Postprocessing of masks by class: keep the largest component, fill holes, remove small components."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from guidino_cli.errors import ConfigError


@dataclass(frozen=True)
class PostprocessRule:
    """Steps applied to one class, in this order.

    Attributes:
        min_share: Components smaller than this share of the image or volume become background.
        largest: Keep only the largest component.
        fill: Fill holes: background enclosed by the class becomes the class.
    """

    min_share: float = 0.0
    largest: bool = False
    fill: bool = False

    def __str__(self) -> str:
        parts = [f"min={self.min_share:g}" if self.min_share else "", "largest" * self.largest, "fill" * self.fill]
        return ",".join(part for part in parts if part) or "none"


def parse_postprocess_rule(text: str) -> PostprocessRule:
    """Parse a rule such as `largest,fill,min=0.001`, in any order.

    Raises:
        ConfigError: Unknown step, or a share outside [0, 1).
    """
    expected = "expected auto, none, or some of largest, fill and min=SHARE, such as largest,fill,min=0.001"
    share, names = 0.0, set()
    for word in text.split(","):
        name, _, value = word.strip().partition("=")
        names.add(name)
        if name == "min":
            try:
                share = float(value)
            except ValueError:
                share = -1.0
        elif name not in {"largest", "fill"} or value:
            raise ConfigError(f"--post {text}: {expected}")
    if not 0 <= share < 1:
        raise ConfigError(f"--post {text}: the share of the image is not in [0, 1); {expected}")
    return PostprocessRule(share, "largest" in names, "fill" in names)


def postprocess_labels(labels: np.ndarray, rules: Mapping[int, PostprocessRule]) -> np.ndarray:
    """Apply the rules of each class to class indices (H, W) or (Z, Y, X); returns a copy."""
    result = labels.copy()
    for index, rule in sorted(rules.items()):
        before = labels == index
        if not before.any():
            continue
        after = postprocess_class(before, rule)
        result[before & ~after] = 0
        # Fill only background: a class inside another one stays.
        result[after & (result == 0)] = index
    return result


def postprocess_class(mask: np.ndarray, rule: PostprocessRule) -> np.ndarray:
    """Apply a rule to a boolean mask (H, W) or (Z, Y, X); components are connected at faces, edges or corners."""
    if not mask.any():
        return mask.copy()
    # Numbers of components take eight times the memory of a volume: only the bounding box of the class is labelled.
    box = _box_of(mask)
    result = np.zeros_like(mask)
    result[box] = _postprocess(mask[box], rule, smallest=rule.min_share * mask.size)
    return result


def _box_of(mask: np.ndarray) -> tuple[slice, ...]:
    """The smallest box around a mask that is not empty."""
    axes = range(mask.ndim)
    places = (np.flatnonzero(mask.any(axis=tuple(other for other in axes if other != axis))) for axis in axes)
    return tuple(slice(int(found[0]), int(found[-1]) + 1) for found in places)


def _postprocess(mask: np.ndarray, rule: PostprocessRule, *, smallest: float) -> np.ndarray:
    """Apply a rule; components of fewer than `smallest` pixels become background."""
    from scipy import ndimage
    from skimage.measure import label

    if rule.min_share or rule.largest:
        components = label(mask, connectivity=mask.ndim)
        sizes = np.bincount(components.ravel())
        sizes[0] = 0
        kept = sizes >= max(1.0, smallest)
        if rule.largest:
            kept &= np.arange(len(sizes)) == sizes.argmax()
        mask = kept[components]
    if rule.fill:
        mask = np.asarray(ndimage.binary_fill_holes(mask))
    return mask
