"""Patch features taught by a frozen teacher: the directions of tokens seen from the middle of all of them.

With x_i what a linear map makes of the student's token of patch i, y_i the teacher's token of it and m the teacher's
mean token,

    L = 1/N sum_i (1 - cos(x_i - m, y_i - m)),    cos(a, b) = <a, b> / (|a| |b|),

in [0, 2]. With m = 0 it is the plain cosine loss. All tokens of a ViT lie in a narrow cone about their mean, so the
plain loss is near 0 for a student that gives the mean everywhere; seen from the mean, it is 1.
"""

import torch.nn.functional as F
from torch import Tensor


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
