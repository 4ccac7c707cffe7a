"""Losses of self-supervised learning: DINO, iBOT, KoLeo, Gram anchoring, distillation; Sinkhorn-Knopp targets."""

import torch
import torch.nn.functional as F
from torch import Tensor

from guidino_cli.distributed import all_gather, all_reduce_max, all_reduce_sum, rank

_KOLEO_EPS = 1e-8
_SINKHORN_ITERATIONS = 3
# Far enough above the smallest float that sums over a batch may divide it: what falls below that is flushed to zero.
_SINKHORN_FLOOR = 1e-30


def dino_loss(student: Tensor, targets: Tensor, *, temperature: float, same_views: bool) -> Tensor:
    """Mean cross-entropy of every student view with every teacher view of the same image.

    L = -1/(n B) sum over pairs (s, t) and images b of sum_k p_tbk log softmax(s_b / tau)_k, n the number of pairs.
    Caron et al. 2021, equation 3; with Sinkhorn-Knopp targets as in DINOv2 and DINOv3. A uniform student has ln K.

    Args:
        student: (S, B, K) logits of S views.
        targets: (T, B, K) probabilities of T views.
        temperature: tau, 0.1 in all three papers.
        same_views: Student and teacher see the same views (S = T), so pairs of a view with itself are left out.
    """
    log_probabilities = torch.log_softmax(student.float() / temperature, dim=-1)
    losses = -torch.einsum("sbk,tbk->st", log_probabilities, targets.float())
    pairs = losses.numel()
    if same_views:
        losses = losses - losses.diagonal().diag()
        pairs -= losses.shape[0]
    return losses.sum() / (pairs * student.shape[1])


def ibot_loss(student: Tensor, targets: Tensor, *, weights: Tensor, views: int, temperature: float) -> Tensor:
    """Cross-entropy over masked patches: the mean of each view, averaged over views; views without a mask count as 0.

    L = -1/V sum_m w_m sum_k p_mk log softmax(s_m / tau)_k, w_m = 1 / (masked patches in the view of patch m).
    Zhou et al. 2022, equation 2, in the form of DINOv2's and DINOv3's code. With half of the views masked, a uniform
    student has ln(K) / 2.

    Args:
        student: (M, K) logits of masked patches.
        targets: (M, K) probabilities of the same patches.
        weights: (M,) w.
        views: V, masked or not.
        temperature: tau, 0.1 in the papers.
    """
    log_probabilities = torch.log_softmax(student.float() / temperature, dim=-1)
    losses = -(targets.float() * log_probabilities).sum(dim=-1)
    return (losses * weights).sum() / views


def koleo_loss(features: Tensor) -> Tensor:
    """Kozachenko-Leonenko estimate of the differential entropy, negated and without constants.

    L = -1/n sum_i log(min_{j != i} || x_i - x_j || + 1e-8), x of length 1 (Sablayrolles et al. 2019, as in DINOv2).

    Args:
        features: (n, D), n >= 2, all of different images.
    """
    directions = F.normalize(features, dim=-1, eps=_KOLEO_EPS)
    with torch.no_grad():
        similarity = directions @ directions.T
        nearest = similarity.fill_diagonal_(-2.0).argmax(dim=1)
    distances = F.pairwise_distance(directions, directions[nearest], p=2, eps=_KOLEO_EPS)
    return -(distances + _KOLEO_EPS).log().mean()


def grouped_koleo_loss(features: Tensor, *, size: int | None) -> Tensor:
    """Mean of `koleo_loss` over groups of images; nearest neighbours are searched within a group.

    Args:
        features: (n, D) of this process, n equal on all.
        size: Images of a group: a divisor of n, or a multiple of n that spans several processes (DINOv3 at high
            resolution: 16, where a GPU has 8). None for n, each process for itself, as in DINOv2.
    """
    if size is None:
        return koleo_loss(features)
    if size <= len(features):
        return torch.stack([koleo_loss(group) for group in features.split(size)]).mean()
    return koleo_loss(_gather_group(features, num_processes=size // len(features)))


def _gather_group(features: Tensor, *, num_processes: int) -> Tensor:
    """Features of all processes in the group of this one.

    Gradients reach this process's own rows, multiplied by the size of the group: averaged over all processes they are
    then the gradients of the mean over all groups.
    """
    gathered, own = all_gather(features), features.clone()
    if own.requires_grad:
        own.register_hook(lambda gradient: num_processes * gradient)
    gathered[rank()] = own
    first = rank() - rank() % num_processes
    return torch.cat(gathered[first : first + num_processes])


def gram_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the cosine similarity matrices of an image's patches, averaged over images.

    L = 1/B sum_b 1/P^2 || X_b X_b^T - Y_b Y_b^T ||_F^2, rows of X (student) and Y (teacher) of length 1.

    DINOv3 (Simeoni et al. 2025) and MedDINOv3 (2025, equation 2) print the sum; DINOv3's code takes the mean over the
    P^2 entries, and so the weight 2 belongs to the mean. Negative cosines are not clipped.

    Args:
        student: (B, P, D), P >= 1.
        teacher: (B, P, D'); without gradient.
    """
    x, y = F.normalize(student, dim=-1), F.normalize(teacher, dim=-1)
    return F.mse_loss(x @ x.transpose(1, 2), y @ y.transpose(1, 2))


def cosine_distance(student: Tensor, teacher: Tensor, centre: Tensor | None = None) -> Tensor:
    """Mean of 1 - cosine similarity over all tokens, a scalar in single precision.

    Args:
        student: (..., D) tokens in the teacher's space.
        teacher: (..., D) tokens of the same patches; no gradient flows to them.
        centre: (D,) subtracted from both, such as the teacher's mean token; 0 by default.

    Raises:
        ValueError: Shapes that differ, or no tokens at all.
    """
    if student.shape != teacher.shape or not student.numel():
        found = f"{tuple(student.shape)} and {tuple(teacher.shape)}"
        raise ValueError(f"student and teacher tokens have shapes {found}, expected equal, non-empty shapes")
    prediction, target = student.float(), teacher.detach().float()
    if centre is not None:
        prediction, target = prediction - centre, target - centre
    return (1 - F.cosine_similarity(prediction, target, dim=-1)).mean()


@torch.no_grad()
def sinkhorn_knopp(logits: Tensor, *, temperature: float, iterations: int = _SINKHORN_ITERATIONS) -> Tensor:
    """Balanced targets: rows sum to 1, columns to about B / K, over the batches of all processes.

    Q = exp(s / t), then alternately every column is divided by its sum times K, every row by its sum times B (Caron et
    al. 2020, SwAV, section 3.1; in place of centring in DINOv2 and DINOv3).

    Args:
        logits: (B, K) of this process, B may be 0; the rows of all processes are balanced together.
        temperature: t.
        iterations: 3 in DINOv2 and DINOv3.

    Returns:
        (B, K) probabilities; every row sums to 1.
    """
    scaled = logits.float() / temperature
    rows, prototypes = scaled.shape
    peak = all_reduce_max(scaled.max() if rows else scaled.new_full((), -torch.inf))
    targets = (scaled - peak).exp()
    count = all_reduce_sum(torch.full((), float(rows), device=targets.device))
    # Rows whose best score is far below the highest of all would vanish: no exponential of theirs is above zero.
    targets = targets.clamp(min=_SINKHORN_FLOOR)
    targets = targets / all_reduce_sum(targets.sum())
    for _ in range(iterations):
        targets = targets / (all_reduce_sum(targets.sum(dim=0)) * prototypes)
        targets = targets / (targets.sum(dim=1, keepdim=True) * count)
    return targets * count
