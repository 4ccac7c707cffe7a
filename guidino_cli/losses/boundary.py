"""Boundary hinge (GuiDINO, section 3.2): a margin on the pixels on either side of every contour."""

import torch
import torch.nn.functional as F
from torch import Tensor

_MARGIN = 1.0


def boundary_hinge(logits: Tensor, mask: Tensor) -> Tensor:
    """Mean over boundary pixels of relu(1 - (2y - 1) z), averaged over foreground classes.

    The boundary of a class is its 3x3 dilation without its 3x3 erosion: one pixel inside, one outside; the image edge
    is none. z is the class's logit minus the largest of the others, hence z1 - z0 for two classes.

    Args:
        logits: (B, K, H, W), K >= 2.
        mask: (B, H, W) class indices.

    Returns:
        A scalar >= 0; 0 where no class has a boundary.
    """
    logits = logits.float()
    terms = [_hinge(_margin(logits, k), (mask == k).float()) for k in range(1, logits.shape[1])]
    return torch.stack(terms).mean()


def _margin(logits: Tensor, k: int) -> Tensor:
    others = torch.cat([logits[:, :k], logits[:, k + 1 :]], dim=1)
    return logits[:, k] - others.amax(dim=1)


def _hinge(z: Tensor, y: Tensor) -> Tensor:
    dilated = F.max_pool2d(y, 3, stride=1, padding=1)
    eroded = -F.max_pool2d(-y, 3, stride=1, padding=1)
    boundary = dilated - eroded
    return (boundary * F.relu(_MARGIN - (2 * y - 1) * z)).sum() / boundary.sum().clamp(min=1)
