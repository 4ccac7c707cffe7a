"""A mask without a network: guide maps sharpened by a guided filter and cut at a threshold that follows the image."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guidino_cli.models.base import Segmenter
from guidino_cli.models.pretrained.statistics import IMAGENET

_LUMA = (0.299, 0.587, 0.114)


class GuidedFilter(Segmenter):
    """Makes logits of one guide map for each foreground class; those of the background are 0.

    The map is brought to a grid of one cell for `reduction` x `reduction` pixels, where a grey guided filter (He et
    al., ECCV 2010) moves its edges to those of the image. With the filtered map f and its Otsu threshold o(f), the
    logit of a class is sharpness * (f - threshold - otsu * (o(f) - mean_otsu)): the threshold follows maps that are
    darker or brighter as a whole than those that it was chosen on. Gradients pass through f, not through o.

    Args:
        num_classes: K, background included.
        in_channels: C of the images, which the filter sees as a weighted mean: of three as luminance.
        reduction: Pixels a cell along each axis.
        radius: Of the filter's box, in cells.
        eps: Variance of the image, in [0, 1], above which the filter keeps an edge.
        otsu: How far the threshold follows the image's own, 0 for not at all.
    """

    guided_at = frozenset({"logits"})
    reads_guide = True

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 3,
        reduction: int = 3,
        radius: int = 4,
        eps: float = 1e-3,
        otsu: float = 0.75,
    ) -> None:
        super().__init__()
        if num_classes < 2 or reduction < 1 or radius < 0 or eps <= 0:
            found = f"{num_classes}, {reduction}, {radius}, {eps}"
            raise ValueError(f"needs num_classes >= 2, reduction >= 1, radius >= 0, eps > 0; found {found}")
        self.stride = self.reduction = reduction
        self.radius, self.eps, self.otsu = radius, eps, otsu
        self.threshold = nn.Parameter(torch.full((num_classes - 1,), 0.5))
        self.sharpness = nn.Parameter(torch.full((num_classes - 1,), 10.0))
        self.mean_otsu: Tensor
        self.register_buffer("mean_otsu", torch.full((num_classes - 1,), 0.5))
        # Channels come divided by their deviation; an offset changes nothing in the filter.
        std = IMAGENET[1] if in_channels == 3 else [sum(IMAGENET[1]) / 3] * in_channels
        share = _LUMA if in_channels == 3 else [1 / in_channels] * in_channels
        weights = torch.tensor([part * scale for part, scale in zip(share, std, strict=True)])
        self.grey: Tensor
        self.register_buffer("grey", weights.view(1, -1, 1, 1), persistent=False)

    def encode(self, image: Tensor, dense: list[Tensor]) -> list[Tensor]:
        """The filtered maps (B, K - 1, H / reduction, W / reduction) of a guide (B, K - 1, h, w)."""
        # No operation here is one that autocast would run in half precision.
        grey = F.avg_pool2d((image.float() * self.grey).sum(dim=1, keepdim=True), self.reduction)
        size = (grey.shape[-2], grey.shape[-1])
        maps = F.interpolate(dense[-1].float(), size=size, mode="bilinear", align_corners=False)
        return [guided_filter(maps, grey, radius=self.radius, eps=self.eps)]

    def decode(self, features: list[Tensor], size_hw: tuple[int, ...]) -> list[Tensor]:
        """Logits (B, K, H, W); no deep supervision."""
        maps = features[0]
        shift = self.otsu * (otsu_threshold(maps.detach().flatten(2)) - self.mean_otsu)
        logits = self.sharpness[:, None, None] * (maps - (self.threshold + shift)[..., None, None])
        logits = F.interpolate(logits, size=tuple(size_hw), mode="bilinear", align_corners=False)
        return [torch.cat([torch.zeros_like(logits[:, :1]), logits], dim=1)]

    @torch.no_grad()
    def set_thresholds(
        self, threshold: Sequence[float], mean_otsu: Sequence[float], sharpness: Sequence[float]
    ) -> None:
        """Take the values of each foreground class."""
        for own, given in ((self.threshold, threshold), (self.mean_otsu, mean_otsu), (self.sharpness, sharpness)):
            own.copy_(torch.tensor(given))


def guided_filter(maps: Tensor, grey: Tensor, *, radius: int, eps: float) -> Tensor:
    """The guided filter of He et al. (2010): in every box a linear function of the grey image that fits the map best.

    Args:
        maps: (B, T, H, W).
        grey: (B, 1, H, W), the image whose edges the maps take over.
        radius: Boxes have 2 * radius + 1 cells along each axis; edges are repeated.
        eps: Added to the image's variance in a box; where that is much smaller, the map is averaged.
    """

    def box_mean(values: Tensor) -> Tensor:
        return F.avg_pool2d(F.pad(values, (radius,) * 4, mode="replicate"), 2 * radius + 1, stride=1)

    # Centred, so that differences of squares keep their digits.
    grey = grey - grey.mean(dim=(2, 3), keepdim=True)
    mean_grey, mean_maps = box_mean(grey), box_mean(maps)
    slope = (box_mean(grey * maps) - mean_grey * mean_maps) / (box_mean(grey * grey) - mean_grey**2 + eps)
    return box_mean(slope) * grey + box_mean(mean_maps - slope * mean_grey)


def otsu_threshold(values: Tensor) -> Tensor:
    """Otsu's threshold of values (..., N), exactly: midway between the two neighbours that best part them.

    The parts are those whose means differ most, weighted by their sizes. Equal values are their own threshold.

    Returns:
        (...).
    """
    ordered = values.sort(dim=-1).values
    count = ordered.shape[-1]
    if count < 2:
        return ordered[..., 0]
    centred = ordered - ordered.mean(dim=-1, keepdim=True)
    below = torch.arange(1, count, device=values.device, dtype=values.dtype)
    # The variance between the parts is s^2 / (n (N - n)) with s the sum of the lower n centred values.
    between = centred.cumsum(dim=-1)[..., :-1] ** 2 / (below * (count - below))
    split = between.argmax(dim=-1, keepdim=True)
    pair = ordered.gather(-1, split) + ordered.gather(-1, split + 1)
    return pair[..., 0] / 2
