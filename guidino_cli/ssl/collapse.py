"""Statistics that reveal collapsed features: effective rank and mean cosine similarity."""

import torch
import torch.nn.functional as F
from torch import Tensor

from guidino_cli.device_transfer import to_double


def effective_rank(features: Tensor) -> Tensor:
    """Effective number of dimensions in which features vary: exp of the entropy of their covariance's spectrum.

    r = exp(-sum_i p_i log p_i), p_i = l_i / sum_j l_j, l the eigenvalues (Roy and Vetterli 2007, on the covariance).

    Args:
        features: (N, D), N >= 2; the rank is at most min(N - 1, D), and 1 if all rows are equal.
    """
    numbers = to_double(features)
    centred = numbers - numbers.mean(dim=0)
    spectrum = torch.linalg.svdvals(centred) ** 2
    probabilities = spectrum / spectrum.sum().clamp(min=1e-30)
    return torch.special.entr(probabilities).sum().exp()


def mean_cosine(features: Tensor) -> Tensor:
    """Mean cosine similarity between different rows of (N, D), N >= 2; 1 if all point in the same direction."""
    count = features.shape[0]
    total = F.normalize(to_double(features), dim=1).sum(dim=0)
    return (total @ total - count) / (count * (count - 1))
