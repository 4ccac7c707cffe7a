"""KoLeo: the features of a batch keep a distance from their nearest neighbours, which holds them apart."""

import torch
import torch.nn.functional as F
from torch import Tensor

from guidino_cli.ssl.together import gathered, process

_TINY = 1e-8


def koleo_loss(features: Tensor) -> Tensor:
    """Kozachenko and Leonenko's estimate of the differential entropy, negative and without constants.

    L = -1/n sum_i log(min_{j != i} || x_i - x_j || + 1e-8), x of length 1 (Sablayrolles et al. 2019, as in DINOv2).

    Args:
        features: (n, D), n >= 2, all of different images.
    """
    directions = F.normalize(features, dim=-1, eps=_TINY)
    with torch.no_grad():
        likeness = directions @ directions.T
        nearest = likeness.fill_diagonal_(-2.0).argmax(dim=1)
    distances = F.pairwise_distance(directions, directions[nearest], p=2, eps=_TINY)
    return -(distances + _TINY).log().mean()


def grouped_koleo(features: Tensor, *, size: int | None) -> Tensor:
    """The mean of `koleo_loss` over groups of images, among which each looks for its nearest neighbour.

    Args:
        features: (n, D) of this process, n the same on all.
        size: Of a group; a divisor of n, or a multiple, then of as many processes together (DINOv3 at high resolution:
            16, where a GPU has 8). None for n, each process for itself, as in DINOv2.
    """
    if size is None:
        return koleo_loss(features)
    if size <= len(features):
        return torch.stack([koleo_loss(group) for group in features.split(size)]).mean()
    return koleo_loss(_with_others(features, sharers=size // len(features)))


def _with_others(features: Tensor, *, sharers: int) -> Tensor:
    """The features of all processes that share a group with this one.

    Gradients reach this one's own, as many times as there are sharers: the mean of the gradients of all processes is
    then that of the mean over all groups.
    """
    everyone, own = gathered(features), features.clone()
    if own.requires_grad:
        own.register_hook(lambda gradient: sharers * gradient)
    everyone[process()] = own
    first = process() - process() % sharers
    return torch.cat(everyone[first : first + sharers])
