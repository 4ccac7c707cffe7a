"""Loss terms: pixel terms take (logits, mask), guide terms take (guide, target).

Both also take the pixels or cells that count: (B, H, W) booleans for the former, (B, 1, h, w) weights in [0, 1] for the
latter; without them, all count. Everywhere, volumes have one more axis: logits (B, K, Z, H, W), masks (B, Z, H, W).
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from guidino_cli.distributed import all_reduce_sum, is_distributed

PIXEL_LOSSES = {
    "dice": "guidino_cli.losses:dice_loss",
    "cross_entropy": "guidino_cli.losses:cross_entropy",
    "boundary": "guidino_cli.losses:boundary_hinge",
    "structure": "guidino_cli.losses:structure_loss",
    "structure_plain_bce": "guidino_cli.losses:structure_loss_with_plain_cross_entropy",
    "affinities": "guidino_cli.losses:affinity_loss",
}
GUIDE_LOSSES = {
    "guide": "guidino_cli.losses:guide_cross_entropy",
    "guide_mse": "guidino_cli.losses:guide_mean_squared_error",
}


_MARGIN = 1.0


def affinity_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Weighted mean squared error of affinities: 1/A sum_d mean_x w_d(x) (sigmoid(z_d(x)) - a_d(x))^2.

    a_d(x) is 1 if the pixel before x along axis d has the instance of x, and x is no background, else 0. The weight of
    a pixel is 1 / (2 p), where p is the share of its value, 0 or 1, of that axis in the batch: both weigh half. The
    first plane of each axis, which has no neighbour before it, does not count. Source: the loss of Superhuman (Lee et
    al. 2017, arXiv:1706.00120) as a squared error.

    Args:
        logits: (B, A, H, W) or (B, A, Z, H, W), one for each of the A axes.
        mask: (B, H, W) or (B, Z, H, W) instance numbers, 0 is the background.

    Returns:
        A scalar >= 0; 0 if every axis has a single pixel.
    """
    probabilities, terms = logits.float().sigmoid(), []
    for axis in range(mask.ndim - 1):
        size = mask.shape[axis + 1]
        if size < 2:
            continue
        own, before = mask.narrow(axis + 1, 1, size - 1), mask.narrow(axis + 1, 0, size - 1)
        target = ((own == before) & (own > 0)).float()
        error = (probabilities[:, axis].narrow(axis + 1, 1, size - 1) - target) ** 2
        share = target.mean()
        weight = target / (2 * share).clamp(min=_TINY) + (1 - target) / (2 * (1 - share)).clamp(min=_TINY)
        terms.append((weight * error).mean())
    return torch.stack(terms).sum() / (mask.ndim - 1) if terms else probabilities.sum() * 0


def boundary_hinge(logits: Tensor, mask: Tensor, *, valid: Tensor | None = None) -> Tensor:
    """Mean over boundary pixels of relu(1 - (2y - 1) z), averaged over foreground classes.

    The boundary of a class is its 3x3 dilation minus its 3x3 erosion (3x3x3 in volumes): one pixel inside, one outside;
    the image edge is no boundary. z is the class's logit minus the largest of the others, z1 - z0 for two classes.

    Args:
        logits: (B, K, H, W), K >= 2.
        mask: (B, H, W) class indices.
        valid: (B, H, W) pixels that count; the edge of an area that does not count is no boundary.

    Returns:
        A scalar >= 0; 0 if no class has a boundary.
    """
    logits = logits.float()
    # Beside pixels that do not count, it is not known where the class ends.
    known = None if valid is None else -_largest_around(-valid.float())
    terms = [_hinge(_margin(logits, k), (mask == k).float(), known) for k in range(1, logits.shape[1])]
    return torch.stack(terms).mean()


def _margin(logits: Tensor, k: int) -> Tensor:
    others = torch.cat([logits[:, :k], logits[:, k + 1 :]], dim=1)
    return logits[:, k] - others.amax(dim=1)


def _largest_around(values: Tensor) -> Tensor:
    """Maximum over each pixel and its neighbours, of (B, H, W) or (B, Z, H, W)."""
    pool = F.max_pool2d if values.ndim == 3 else F.max_pool3d
    return pool(values, 3, stride=1, padding=1)


def _hinge(z: Tensor, y: Tensor, known: Tensor | None) -> Tensor:
    dilated = _largest_around(y)
    eroded = -_largest_around(-y)
    boundary = dilated - eroded if known is None else (dilated - eroded) * known
    return (boundary * F.relu(_MARGIN - (2 * y - 1) * z)).sum() / boundary.sum().clamp(min=1)


def cross_entropy(logits: Tensor, mask: Tensor, *, valid: Tensor | None = None, weight: Tensor | None = None) -> Tensor:
    """Mean over pixels of -log softmax(logits)[mask].

    Args:
        logits: (B, K, H, W).
        mask: (B, H, W) class indices.
        valid: (B, H, W) pixels that count.
        weight: (K,) weights > 0 of the classes; the mean is then weighted by those of the pixels' classes, as in torch.

    Returns:
        A scalar >= 0; 0 if no pixel counts.
    """
    if valid is not None:
        counted = valid.float() if weight is None else valid * weight[mask]
        return (_entropies(logits, mask) * counted).sum() / counted.sum().clamp(min=_TINY)
    if torch.are_deterministic_algorithms_enabled():
        # On CUDA torch is deterministic for (N, K) logits only.
        return F.cross_entropy(logits.float().movedim(1, -1).flatten(0, -2), mask.flatten(), weight)
    return F.cross_entropy(logits.float(), mask, weight)


# Divisor of an empty mean, whose dividend is 0.
_TINY = 1e-12


def _entropies(logits: Tensor, mask: Tensor) -> Tensor:
    """-log softmax(logits)[mask] of every pixel, (B, H, W)."""
    # Flattened, for the reason above.
    flat = F.cross_entropy(logits.float().movedim(1, -1).flatten(0, -2), mask.flatten(), reduction="none")
    return flat.view(mask.shape)


_SMOOTH = 1e-5


def dice_loss(logits: Tensor, mask: Tensor, *, valid: Tensor | None = None) -> Tensor:
    """1 - mean over foreground classes of (2 sum p y + e) / (sum p + sum y + e), sums over batch and pixels, e = 1e-5.

    The batch is that of all processes together, as in nnU-Net.

    Args:
        logits: (B, K, H, W).
        mask: (B, H, W) class indices.
        valid: (B, H, W) pixels that count.

    Returns:
        A scalar in [0, 1]; a class that is absent from both contributes 0.
    """
    probabilities = logits.float().softmax(dim=1)[:, 1:]
    if valid is not None:
        probabilities = probabilities * valid[:, None]
    # Not `F.one_hot`, which checks every index on the CPU and allocates int64.
    classes = torch.arange(1, logits.shape[1], device=mask.device).view(-1, *[1] * (mask.ndim - 1))
    truth = (mask[:, None] == classes).to(probabilities.dtype)
    if valid is not None:
        truth = truth * valid[:, None]
    axes = (0, *range(2, logits.ndim))
    sums = torch.stack([(probabilities * truth).sum(axes), probabilities.sum(axes) + truth.sum(axes)])
    if is_distributed() and sums.requires_grad:
        sums = _SumOverRanks.apply(sums)
    overlap, total = sums
    return 1 - ((2 * overlap + _SMOOTH) / (total + _SMOOTH)).mean()


class _SumOverRanks(torch.autograd.Function):
    """Sum over the parts of a batch on all ranks; gradients are summed too, as DDP will average them."""

    @staticmethod
    def forward(_: Any, sums: Tensor) -> Tensor:
        return all_reduce_sum(sums)

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        return all_reduce_sum(gradients[0])


# Rounding may make a guide exactly 0 or 1, where its logit is infinite.
_EPSILON = 1e-6


def guide_cross_entropy(guide: Tensor, target: Tensor, *, valid: Tensor | None = None) -> Tensor:
    """Binary cross-entropy of equation 3, in logit form.

    Args:
        guide: (B, G, h, w) in [0, 1].
        target: (B, G, h, w) fraction of foreground in each cell, in [0, 1].
        valid: (B, 1, h, w) weights of the cells: the share of their pixels that count.

    Returns:
        The mean over cells. As the cross-entropy is linear in the truth, this is the mean over pixels of equation 3 for
        a guide that is constant over a cell.
    """
    logit = torch.logit(guide.float(), eps=_EPSILON)
    if valid is not None:
        return _weighted_mean(F.binary_cross_entropy_with_logits(logit, target.float(), reduction="none"), valid)
    return F.binary_cross_entropy_with_logits(logit, target.float())


def guide_mean_squared_error(guide: Tensor, target: Tensor, *, valid: Tensor | None = None) -> Tensor:
    """Mean squared error; the authors' code minimizes it instead of equation 3, with one pixel per cell as target."""
    if valid is not None:
        return _weighted_mean((guide.float() - target.float()) ** 2, valid)
    return F.mse_loss(guide.float(), target.float())


def _weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Mean of (B, G, h, w) values by (B, 1, h, w) weights; 0 if all weights are."""
    weights = weights.expand_as(values)
    return (values * weights).sum() / weights.sum().clamp(min=_TINY)


# Side of the square around a pixel, additional weight of a pixel that differs from all of it, smoothing of the IoU.
_SQUARE, _EDGE_WEIGHT, _IOU_SMOOTH = 31, 5.0, 1.0


def structure_loss(logits: Tensor, mask: Tensor, *, valid: Tensor | None = None) -> Tensor:
    """Weighted binary cross-entropy plus 1 - weighted IoU, each a mean over images and foreground classes.

    The loss of F3Net (Wei et al. 2020, arXiv:1911.11445), which SAM2-UNet's paper names; see
    `structure_loss_with_plain_cross_entropy` for what its code computes. The weight of a pixel is 1 + 5 |m - y|, where
    m is the fraction of its class among the pixels of the 31 x 31 square around it that are inside the image; the
    authors' code counts those outside as background. With several classes, each is compared with all others, by its
    softmax probability. Of a volume, every slice is an image.

    Args:
        logits: (B, K, H, W), K >= 2.
        mask: (B, H, W) class indices.
        valid: (B, H, W) pixels that count, also among those of the square.

    Returns:
        A scalar >= 0.
    """
    return _mean_over_classes(_weighted_entropy_plus_iou, logits, mask, valid)


def structure_loss_with_plain_cross_entropy(logits: Tensor, mask: Tensor, *, valid: Tensor | None = None) -> Tensor:
    """`structure_loss` as the code of SAM2-UNet computes it: the cross-entropy has no weights.

    The code passes `reduce='none'` where torch expects `reduction='none'`, and so weights the mean over batch and
    pixels. Pixels outside the image count as background.
    """
    return _mean_over_classes(_plain_entropy_plus_iou, logits, mask, valid)


_ClassLoss = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def _mean_over_classes(loss: _ClassLoss, logits: Tensor, mask: Tensor, valid: Tensor | None) -> Tensor:
    """Mean over foreground classes of a binary loss (logit and truth (B, H, W)), each class against all others."""
    logits = logits.float()
    if logits.ndim == 5:
        logits, mask = logits.transpose(1, 2).flatten(0, 1), mask.flatten(0, 1)
        valid = None if valid is None else valid.flatten(0, 1)
    losses = []
    for k in range(1, logits.shape[1]):
        truth = mask == k if valid is None else (mask == k) & valid
        losses.append(loss(_one_vs_rest_logit(logits, k), truth.float(), None if valid is None else valid.float()))
    return torch.stack(losses).mean()


def _one_vs_rest_logit(logits: Tensor, k: int) -> Tensor:
    """(B, H, W): the logit whose sigmoid is the softmax probability of class k."""
    others = torch.cat([logits[:, :k], logits[:, k + 1 :]], dim=1)
    return logits[:, k] - others.logsumexp(dim=1)


def _weighted_entropy_plus_iou(z: Tensor, y: Tensor, valid: Tensor | None) -> Tensor:
    weight = _edge_weight(y, valid, pads=False)
    entropy = F.binary_cross_entropy_with_logits(z, y, reduction="none")
    mean = (entropy * weight).sum((1, 2)) / weight.sum((1, 2)).clamp(min=_TINY)
    return (mean + 1 - _weighted_iou(z, y, weight)).mean()


def _plain_entropy_plus_iou(z: Tensor, y: Tensor, valid: Tensor | None) -> Tensor:
    iou = _weighted_iou(z, y, _edge_weight(y, valid, pads=True))
    if valid is None:
        return F.binary_cross_entropy_with_logits(z, y) + 1 - iou.mean()
    entropy = F.binary_cross_entropy_with_logits(z, y, reduction="none")
    return (entropy * valid).sum() / valid.sum().clamp(min=_TINY) + 1 - iou.mean()


def _edge_weight(y: Tensor, valid: Tensor | None, *, pads: bool) -> Tensor:
    """Weights (B, H, W) of the pixels, 0 where they do not count; `pads`: what is outside the image is background."""
    around = _mean_around(y, pads=pads)
    if valid is None:
        return 1 + _EDGE_WEIGHT * (around - y).abs()
    around = around / _mean_around(valid, pads=False).clamp(min=_TINY)
    return valid * (1 + _EDGE_WEIGHT * (around - y).abs())


def _mean_around(values: Tensor, *, pads: bool) -> Tensor:
    return F.avg_pool2d(values[:, None], _SQUARE, stride=1, padding=_SQUARE // 2, count_include_pad=pads)[:, 0]


def _weighted_iou(z: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """Smoothed weighted IoU of each image, (B,)."""
    p = torch.sigmoid(z)
    overlap, total = (p * y * weight).sum((1, 2)), ((p + y) * weight).sum((1, 2))
    return (overlap + _IOU_SMOOTH) / (total - overlap + _IOU_SMOOTH)
