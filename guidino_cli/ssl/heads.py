"""The projection head between a token and the prototypes that student and teacher compare."""

import torch.nn.functional as F
from torch import Tensor, nn

_TINY = 1e-12


class PrototypeHead(nn.Module):
    """Three linear layers with GELU between them, a vector of length 1, its products with K prototypes.

    As in DINOv2 and DINOv3, the prototypes are not normalised (DINO's were).

    Args:
        channels: Of a token.
        prototypes: K.
        hidden: Of the two inner layers.
        bottleneck: Of the vector that is compared.
        last_std: Of the prototypes' entries at the beginning. A product of one with a vector of length 1 then has this
            standard deviation too: 0.02 in the papers.
    """

    def __init__(
        self, channels: int, *, prototypes: int, hidden: int = 2048, bottleneck: int = 256, last_std: float = 0.02
    ) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        )
        self.last = nn.Linear(bottleneck, prototypes, bias=False)
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        nn.init.trunc_normal_(self.last.weight, std=last_std, a=-2 * last_std, b=2 * last_std)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., D) -> (..., K) products."""
        return self.last(F.normalize(self.mlp(tokens), dim=-1, eps=_TINY))
