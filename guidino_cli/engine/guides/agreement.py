"""Agreement of masks with frozen tokens: scores of a ridge regression fitted on the other images, and their AUROC."""

from collections.abc import Iterator, Sequence
from functools import reduce
from operator import add
from typing import BinaryIO

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from guidino_cli.data.preprocess import resize_image, to_tensor
from guidino_cli.metrics.overlap import auroc
from guidino_cli.models.base import Backbone
from guidino_cli.models.ridge import TokenSums, fit_balanced_ridge

GRID = 24
"""Tokens along each side of an image, which is stretched to a square."""
ALPHA = 0.1
"""Penalty of the regression; from 0.03 to 1 the ranking hardly changes."""
FOLDS = 5


@torch.inference_mode()
def grid_tokens(backbone: Backbone, pixels: np.ndarray) -> Tensor:
    """Tokens (GRID * GRID, D) float32 of length 1 of an image (H, W, 3) uint8, from a backbone's deepest map."""
    side = GRID * backbone.stride
    image = to_tensor(resize_image(pixels, (side, side))).to(next(backbone.parameters()).device)
    dense = backbone(image[None])[-1].float().cpu()
    return F.normalize(dense[0].flatten(1).T, dim=1)


def cell_shares(region: np.ndarray, grid_hw: tuple[int, int] = (GRID, GRID)) -> np.ndarray:
    """Share of each cell of a grid that a boolean region (H, W) covers: (h * w,) float32 in [0, 1]."""
    shares = Image.fromarray(region.astype(np.float32)).resize(grid_hw[::-1], Image.Resampling.BOX)
    # Pillow's weights add up to 1 within rounding.
    return np.asarray(shares).ravel().clip(0, 1)


class TokenSpool:
    """Tokens of any number of images in a file, in the order in which they were added, as 16-bit floats.

    Args:
        file: An empty file, open for writing and reading; half a megabyte per image for 384 channels.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._shape: tuple[int, int] = (0, 0)
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def append(self, tokens: Tensor) -> None:
        """Add the tokens (N, D) of an image; N and D are the same for all."""
        self._shape = (tokens.shape[0], tokens.shape[1])
        self._file.write(tokens.half().numpy().tobytes())
        self._length += 1

    def __iter__(self) -> Iterator[Tensor]:
        self._file.seek(0)
        for _ in range(self._length):
            content = self._file.read(2 * self._shape[0] * self._shape[1])
            yield torch.from_numpy(np.frombuffer(content, dtype=np.float16).reshape(self._shape).astype(np.float32))


def assign_folds(groups: Sequence[str], *, seed: int = 0, count: int = FOLDS) -> np.ndarray:
    """Fold (n,) of each image, at most `count` of about equal numbers of groups; the images of a group share one.

    A regression must not learn from the wrong mask of another frame of the same patient that the mask is right.
    """
    names = sorted(set(groups))
    order = np.random.default_rng(seed).permutation(len(names))
    fold_of = {names[place]: rank % min(count, len(names)) for rank, place in enumerate(order.tolist())}
    return np.array([fold_of[group] for group in groups], dtype=np.int64)


def held_out_scores(
    tokens: TokenSpool | Sequence[Tensor], shares: np.ndarray, folds: np.ndarray, *, alpha: float = ALPHA
) -> np.ndarray:
    """Score each image's tokens by regressions fitted on the images of the other folds.

    Args:
        tokens: (N, D) of each of n images.
        shares: (n, T, N) float32, share of each cell that belongs to each of T regions.
        folds: (n,) fold of each image.
        alpha: Penalty, see `fit_balanced_ridge`.

    Returns:
        (n, T, N) float32; NaN where the other folds have no token inside or none outside of the region.
    """
    of_fold: dict[int, TokenSums] = {}
    for fold, token, share in zip(folds.tolist(), tokens, shares, strict=True):
        sums = TokenSums.of(token, torch.from_numpy(share))
        of_fold[fold] = of_fold[fold] + sums if fold in of_fold else sums
    total = reduce(add, of_fold.values())
    scorers = {}
    for fold, sums in of_fold.items():
        rest = total - sums
        for region in range(shares.shape[1]):
            try:
                scorers[fold, region] = fit_balanced_ridge(rest, region, alpha=alpha)
            except ValueError:
                continue
    scores = np.full(shares.shape, np.nan, dtype=np.float32)
    for index, (fold, token) in enumerate(zip(folds.tolist(), tokens, strict=True)):
        for region in range(shares.shape[1]):
            if (fold, region) in scorers:
                scores[index, region] = scorers[fold, region](token).numpy()
    return scores


def agreement(scores: np.ndarray, shares: np.ndarray) -> float:
    """AUROC of an image's scores (N,) for the cells of its mask, given by their shares (N,).

    Cells belong to the mask if more than half of them does; for a mask too small or thin for that, the cells with more
    than half of its largest share.

    Returns:
        Value in [0, 1]; 0.5 is chance, below it the scores mark the rest of the image. NaN without scores, without
        foreground, or if every cell belongs to the mask.
    """
    largest = float(shares.max())
    if largest == 0 or np.isnan(scores).any():
        return float("nan")
    return auroc(scores, shares > (0.5 if largest > 0.5 else largest / 2))
