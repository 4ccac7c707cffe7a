"""Losses of self-supervised learning: DINO, iBOT, KoLeo, Gram anchoring, distillation, Sinkhorn-Knopp."""

import torch
import torch.nn.functional as F
from torch import Tensor

from guidino_cli.distributed import all_gather, all_reduce_max, all_reduce_sum, rank


def dino_loss(student: Tensor, targets: Tensor, *, temperature: float, same_views: bool) -> Tensor:
    """Mean cross-entropy of every student's view with every teacher's view of the same image.

    L = -1/(n B) sum over pairs (s, t) and images b of sum_k p_tbk log softmax(s_b / tau)_k, n the number of pairs.
    Caron et al. 2021, equation 3; with Sinkhorn-Knopp targets as in DINOv2 and DINOv3. Uniform students have ln K.

    Args:
        student: (S, B, K) scores of S views.
        targets: (T, B, K) probabilities of T views.
        temperature: tau, 0.1 in all three papers.
        same_views: Student and teacher have the same views (S = T), so that pairs of a view with itself are left out.
    """
    log_shares = torch.log_softmax(student.float() / temperature, dim=-1)
    losses = -torch.einsum("sbk,tbk->st", log_shares, targets.float())
    pairs = losses.numel()
    if same_views:
        losses = losses - losses.diagonal().diag()
        pairs -= losses.shape[0]
    return losses.sum() / (pairs * student.shape[1])


def cosine_distance(student: Tensor, teacher: Tensor, centre: Tensor | None = None) -> Tensor:
    """Mean over all tokens, a scalar in single precision.

    Args:
        student: (..., D) tokens in the teacher's space.
        teacher: (..., D) tokens of the same patches; no gradient flows to them.
        centre: (D,) the teacher's mean token; 0 by default.

    Raises:
        ValueError: Shapes that differ, or no tokens at all.
    """
    if student.shape != teacher.shape or not student.numel():
        found = f"{tuple(student.shape)} and {tuple(teacher.shape)}"
        raise ValueError(f"tokens of student and teacher are of shapes {found}, expected the same and not empty")
    given, wanted = student.float(), teacher.detach().float()
    if centre is not None:
        given, wanted = given - centre, wanted - centre
    return (1 - F.cosine_similarity(given, wanted, dim=-1)).mean()


def gram_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the matrices of cosines between the patches of an image, averaged over the images.

    L = 1/B sum_b 1/P^2 || X_b X_b^T - Y_b Y_b^T ||_F^2, rows of X (student) and Y (teacher) of length 1.

    DINOv3 (Simeoni et al. 2025) and MedDINOv3 (2025, equation 2) print the sum; DINOv3's code takes the mean over the
    P^2 entries, and so the weight 2 belongs to the mean. Negative cosines count as they are.

    Args:
        student: (B, P, D), P >= 1.
        teacher: (B, P, D'); without gradient.
    """
    x, y = F.normalize(student, dim=-1), F.normalize(teacher, dim=-1)
    return F.mse_loss(x @ x.transpose(1, 2), y @ y.transpose(1, 2))


def ibot_loss(student: Tensor, targets: Tensor, *, weights: Tensor, views: int, temperature: float) -> Tensor:
    """Cross-entropy over masked patches; each view counts its own mean, views without a mask count as 0.

    L = -1/V sum_m w_m sum_k p_mk log softmax(s_m / tau)_k, w_m = 1 / (masked patches of the view of patch m).
    Zhou et al. 2022, equation 2, in the form of DINOv2's and DINOv3's code. With half of the views masked, a uniform
    student has ln(K) / 2.

    Args:
        student: (M, K) scores of masked patches.
        targets: (M, K) probabilities of the same patches.
        weights: (M,) w.
        views: V, masked or not.
        temperature: tau, 0.1 in the papers.
    """
    log_shares = torch.log_softmax(student.float() / temperature, dim=-1)
    losses = -(targets.float() * log_shares).sum(dim=-1)
    return (losses * weights).sum() / views


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


def grouped_koleo_loss(features: Tensor, *, size: int | None) -> Tensor:
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
    everyone, own = all_gather(features), features.clone()
    if own.requires_grad:
        own.register_hook(lambda gradient: sharers * gradient)
    everyone[rank()] = own
    first = rank() - rank() % sharers
    return torch.cat(everyone[first : first + sharers])


_ITERATIONS = 3
# Far enough above the smallest float that sums over a batch may divide it: what falls below that is flushed to zero.
_FLOOR = 1e-30


@torch.no_grad()
def sinkhorn_knopp(scores: Tensor, *, temperature: float, iterations: int = _ITERATIONS) -> Tensor:
    """Targets: rows that sum to 1, columns that sum to about B / K, from scores of all processes together.

    Q = exp(s / t), then by turns every column is divided by its sum times K, every row by its sum times B (Caron et al.
    2020, SwAV, section 3.1; in place of centring in DINOv2 and DINOv3).

    Args:
        scores: (B, K) of this process; all processes' rows are balanced together. There may be none.
        temperature: t.
        iterations: 3 in DINOv2 and DINOv3.

    Returns:
        (B, K) probabilities; every row sums to 1.
    """
    logits = scores.float() / temperature
    rows, prototypes = logits.shape
    peak = all_reduce_max(logits.max() if rows else logits.new_full((), -torch.inf))
    shares = (logits - peak).exp()
    count = all_reduce_sum(torch.tensor(float(rows), device=shares.device))
    # Rows whose best score is far below the highest of all would vanish: no exponential of theirs is above zero.
    shares = shares.clamp(min=_FLOOR)
    shares = shares / all_reduce_sum(shares.sum())
    for _ in range(iterations):
        shares = shares / (all_reduce_sum(shares.sum(dim=0)) * prototypes)
        shares = shares / (shares.sum(dim=1, keepdim=True) * count)
    return shares * count
