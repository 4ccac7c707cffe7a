"""How alike two instance label maps are, whatever the numbers of their instances (scikit-image's figures)."""

import numpy as np


def adapted_rand_error(prediction: np.ndarray, truth: np.ndarray) -> float:
    """1 - F1 of the pairs of pixels that share an instance; pixels that are 0 in the truth do not count.

    Args:
        prediction: Whole numbers, 0 is the background.
        truth: The same shape, with at least one pixel that is not 0.
    """
    from skimage.metrics import adapted_rand_error as measure

    return float(measure(_numbered(truth), _numbered(prediction))[0])


def variation_of_information(prediction: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Bits by which the prediction merges true instances (under-segmentation) and splits them (over-segmentation).

    The background counts as one more instance, as in scikit-image's default. Both are 0 for equal partitions; their sum
    is the variation of information.

    Returns:
        (merged, split), H(truth | prediction) and H(prediction | truth).
    """
    from skimage.metrics import variation_of_information as measure

    merged, split = measure(_numbered(prediction), _numbered(truth))
    return float(merged), float(split)


def _numbered(labels: np.ndarray) -> np.ndarray:
    """Instances numbered without gaps, background 0: scikit-image's tables grow with the largest number."""
    values, inverse = np.unique(labels, return_inverse=True)
    inverse = inverse.reshape(labels.shape)
    return inverse if values[0] == 0 else inverse + 1
