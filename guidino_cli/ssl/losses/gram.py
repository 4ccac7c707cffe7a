"""Gram anchoring: patches of the student keep among each other the likenesses that an earlier teacher saw."""

import torch.nn.functional as F
from torch import Tensor


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
