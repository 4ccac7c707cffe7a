"""Structure loss (Wei et al., AAAI 2020, F3Net): cross-entropy and IoU in which pixels near a contour weigh more."""

import torch
import torch.nn.functional as F
from torch import Tensor

# Side of the square around a pixel, how much a pixel that differs from all of it weighs more, and the IoU's smoothing.
_SIDE, _WEIGHT, _SMOOTH = 31, 5.0, 1.0


def structure_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Weighted binary cross-entropy plus 1 - weighted IoU, each a mean over images and foreground classes.

    A pixel weighs 1 + 5 |m - y|, where m is the share of its class among the pixels of the 31 x 31 square around it
    that lie within the image; the authors' code counts those outside as background. Of several classes each is set
    against all others, by its softmax probability.

    Args:
        logits: (B, K, H, W), K >= 2.
        mask: (B, H, W) class indices.

    Returns:
        A scalar >= 0.
    """
    logits = logits.float()
    terms = [_of_class(_against_others(logits, k), (mask == k).float()) for k in range(1, logits.shape[1])]
    return torch.stack(terms).mean()


def _against_others(logits: Tensor, k: int) -> Tensor:
    """(B, H, W): the number whose sigmoid is the softmax probability of class k."""
    others = torch.cat([logits[:, :k], logits[:, k + 1 :]], dim=1)
    return logits[:, k] - others.logsumexp(dim=1)


def _of_class(z: Tensor, y: Tensor) -> Tensor:
    around = F.avg_pool2d(y[:, None], _SIDE, stride=1, padding=_SIDE // 2, count_include_pad=False)[:, 0]
    weight = 1 + _WEIGHT * (around - y).abs()
    axes = (1, 2)
    entropy = F.binary_cross_entropy_with_logits(z, y, reduction="none")
    p = torch.sigmoid(z)
    overlap, total = (p * y * weight).sum(axes), ((p + y) * weight).sum(axes)
    iou = (overlap + _SMOOTH) / (total - overlap + _SMOOTH)
    return ((entropy * weight).sum(axes) / weight.sum(axes) + 1 - iou).mean()
