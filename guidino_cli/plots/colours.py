"""Values as colours: those of a guide map, alone or over an image in faint grey."""

import numpy as np

GUIDE_COLOURS = "viridis"
"""Equal steps look equal, in grey print and to colour-blind readers too."""
Limits = tuple[float, float]
UNIT: Limits = (0.0, 1.0)
_GUIDE_OPACITY = 0.7
_GREYS = (0.2, 0.8)
"""Black and white of an image under a guide: pulled together, so that it hardly shifts the colours above it."""
MID_GREY = sum(_GREYS) / 2


def coloured(values: np.ndarray, *, limits: Limits = UNIT, colours: str = GUIDE_COLOURS) -> np.ndarray:
    """Values (H, W) as colours (H, W, 3) in [0, 1]; those beyond the limits get the colour of the nearer limit."""
    from matplotlib import colormaps

    low, high = limits
    return np.asarray(colormaps[colours](np.clip((values - low) / (high - low), 0, 1))[..., :3])


def faint_grey(image: np.ndarray) -> np.ndarray:
    """The image (H, W, 3) uint8 as a ground for coloured lines and maps: (H, W) greys in [0, 1], no black, no white."""
    grey = image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32) / 255
    return np.asarray(_GREYS[0] + (_GREYS[1] - _GREYS[0]) * grey)


def guide_over(image: np.ndarray, guide: np.ndarray, *, limits: Limits = UNIT) -> np.ndarray:
    """The image in faint grey under the colours of a guide map.

    Args:
        image: (H, W, 3) uint8.
        guide: (H, W) in [0, 1].
        limits: Values of the first and the last colour.

    Returns:
        (H, W, 3) floats in [0, 1].
    """
    return blended(coloured(guide, limits=limits), faint_grey(image)[..., None])


def blended(colours: np.ndarray, grey: np.ndarray | float) -> np.ndarray:
    """Colours of a guide as they look over a grey."""
    return np.asarray(_GUIDE_OPACITY * colours + (1 - _GUIDE_OPACITY) * grey)
