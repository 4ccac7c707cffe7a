"""KoLeo: the features of a batch keep a distance from their nearest neighbours, which holds them apart."""

import torch
import torch.nn.functional as F
from torch import Tensor

_TINY = 1e-8


def koleo_loss(features: Tensor) -> Tensor:
    """Kozachenko and Leonenko's estimate of the differential entropy, negative and without constants.

    L = -1/n sum_i log(min_{j != i} || x_i - x_j || + 1e-8), x of length 1 (Sablayrolles et al. 2019, as in DINOv2).

    Args:
        features: (n, D), n >= 2, all of different images. Over several processes each takes its own.
    """
    directions = F.normalize(features, dim=-1, eps=_TINY)
    with torch.no_grad():
        likeness = directions @ directions.T
        nearest = likeness.fill_diagonal_(-2.0).argmax(dim=1)
    distances = F.pairwise_distance(directions, directions[nearest], p=2, eps=_TINY)
    return -(distances + _TINY).log().mean()
