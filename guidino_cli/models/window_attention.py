"""Attention within the windows of a map, shifted or not: the block of Swin Transformers (Liu et al., ICCV 2021)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guidino_cli.models.layers import DropPath


class WindowAttention(nn.Module):
    """Self-attention among the cells of each window x window square, with a learned bias for every displacement.

    Maps of any size: they are padded at the bottom and right to whole windows, and no cell attends to padding (Swin's
    detection code pads too, but lets the padding be attended to). A map no larger than a window is not shifted, as in
    Swin.

    Args:
        channels: C.
        heads: Divides C.
        window: Side of a window in cells.
        shift: The grid of windows is moved by so many cells down and right; cells that meet in a window only because
            the map was rolled do not attend to each other.
    """

    # Computed from the window, hence not saved.
    displacement: Tensor

    def __init__(self, channels: int, *, heads: int, window: int, shift: int = 0) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels cannot be shared by {heads} heads")
        self.heads, self.window, self.shift = heads, window, shift
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        self.bias = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.bias, std=0.02)
        self.register_buffer("displacement", _displacements(window), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Attend within windows; maps (B, h, w, C) in and out."""
        batch, h, w, _ = x.shape
        shift = self.shift if min(h, w) > self.window else 0
        pad_h, pad_w = -h % self.window, -w % self.window
        rolled = F.pad(x, (0, 0, 0, pad_w, 0, pad_h)).roll((-shift, -shift), dims=(1, 2))
        # (B * windows, T, C), T cells in a window.
        windows = _partition(rolled, self.window)
        mask = self.bias[self.displacement].permute(2, 0, 1).unsqueeze(0)
        if shift or pad_h or pad_w:
            apart = _attention_mask((h, w), (h + pad_h, w + pad_w), window=self.window, shift=shift, device=x.device)
            mask = mask.masked_fill(apart.unsqueeze(1), float("-inf"))
        joined = _join(self._attend(windows, mask, batch), rolled.shape[1:3], self.window)
        return joined.roll((shift, shift), dims=(1, 2))[:, :h, :w]

    def _attend(self, windows: Tensor, mask: Tensor, batch: int) -> Tensor:
        """`mask` is (windows or 1, heads, T, T), the same for every image."""
        q, k, v = self.qkv(windows).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if len(mask) > 1:
            # Windows go with the heads, so that the mask need not be repeated for every image.
            q, k, v = (item.unflatten(0, (batch, -1)).flatten(1, 2) for item in (q, k, v))
            mask = mask.flatten(0, 1)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask.to(q.dtype)).unflatten(1, (-1, self.heads))
        return self.out(mixed.flatten(0, 1).transpose(1, 2).flatten(2))


class SwinBlock(nn.Module):
    """Window attention, then an MLP; both after a LayerNorm and added to what came in.

    Args:
        channels: C.
        heads: Divides C.
        window: Side of a window in cells.
        shift: See `WindowAttention`.
        mlp: From maps (B, h, w, C) to the same; Swin's by default: fourfold width and GELU.
        drop_path: Share of samples for which, in training, a branch is left out.
    """

    def __init__(
        self,
        channels: int,
        *,
        heads: int,
        window: int,
        shift: int = 0,
        mlp: nn.Module | None = None,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(channels)
        self.attention = WindowAttention(channels, heads=heads, window=window, shift=shift)
        self.norm_mlp = nn.LayerNorm(channels)
        self.mlp = mlp or nn.Sequential(nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, h, w, C) in and out."""
        x = x + self.drop_path(self.attention(self.norm_attention(x)))
        return x + self.drop_path(self.mlp(self.norm_mlp(x)))


class PatchMerging(nn.Module):
    """Half the size, twice the channels: the four cells of each square side by side, normed, projected."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.project = nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, C) to (B, h / 2, w / 2, 2 C)."""
        return self.project(self.norm(channels_last(F.pixel_unshuffle(channels_first(x), 2))))


class PatchExpanding(nn.Module):
    """The inverse of merging: projected to factor^2 cells of the new width, laid out as a square and normed."""

    def __init__(self, channels_in: int, channels_out: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.project = nn.Linear(channels_in, factor**2 * channels_out, bias=False)
        self.norm = nn.LayerNorm(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, C) to (B, factor h, factor w, the new width)."""
        out: Tensor = self.norm(channels_last(F.pixel_shuffle(channels_first(self.project(x)), self.factor)))
        return out


def channels_first(x: Tensor) -> Tensor:
    """(B, h, w, C) to (B, C, h, w)."""
    return x.permute(0, 3, 1, 2)


def channels_last(x: Tensor) -> Tensor:
    """(B, C, h, w) to (B, h, w, C)."""
    return x.permute(0, 2, 3, 1)


def _displacements(window: int) -> Tensor:
    """Number (T, T) of the displacement between two cells of a window, 0 to (2 window - 1)^2 - 1."""
    rows, columns = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
    down = rows.flatten()[:, None] - rows.flatten()[None, :] + window - 1
    across = columns.flatten()[:, None] - columns.flatten()[None, :] + window - 1
    return down * (2 * window - 1) + across


def _partition(x: Tensor, window: int) -> Tensor:
    """(B, h, w, C) to (B * windows, T, C), windows row by row."""
    batch, h, w, channels = x.shape
    x = x.view(batch, h // window, window, w // window, window, channels)
    return x.transpose(2, 3).reshape(-1, window * window, channels)


def _join(windows: Tensor, size_hw: tuple[int, int] | torch.Size, window: int) -> Tensor:
    """The inverse of `_partition`."""
    h, w = size_hw
    x = windows.view(-1, h // window, w // window, window, window, windows.shape[-1])
    return x.transpose(2, 3).reshape(-1, h, w, windows.shape[-1])


def _attention_mask(
    real_hw: tuple[int, int], padded_hw: tuple[int, int], *, window: int, shift: int, device: torch.device
) -> Tensor:
    """Mask (windows, T, T) of cells that may not attend to each other: neighbours by padding or rolling only."""
    (h, w), (padded_h, padded_w) = real_hw, padded_hw
    rows, columns = torch.arange(padded_h, device=device), torch.arange(padded_w, device=device)
    padding = ((rows >= h)[:, None] | (columns >= w)[None, :]).roll((-shift, -shift), dims=(0, 1))
    # In the rolled map, what came round from the top and the left lies at the end.
    wrapped = (rows >= padded_h - shift)[:, None] * 2 + (columns >= padded_w - shift)[None, :]
    label = _partition((wrapped * 2 + padding)[None, :, :, None], window).squeeze(-1)
    return label[:, :, None] != label[:, None, :]
