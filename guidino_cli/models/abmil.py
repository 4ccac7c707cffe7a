"""Gated attention over the instances of a bag (Ilse et al., 2018), with the embedding of the DINOv3 benchmark."""

import torch
from torch import Tensor, nn


class GatedAttentionMIL(nn.Module):
    """h_i = W e_i + b; a_i = softmax_i(w . (tanh(V h_i) * sigmoid(U h_i))); logits of z = sum_i a_i h_i.

    Sizes are not stated in the benchmark; 256 and 128 are about half of CLAM's.

    Args:
        channels: D0, width of the instances.
        num_classes: K.
        width: D of h.
        attention: H, rows of U and V.
    """

    def __init__(self, channels: int, num_classes: int, *, width: int = 256, attention: int = 128) -> None:
        super().__init__()
        self.embed = nn.Linear(channels, width)
        # Neither U, V nor w has a bias in the equation.
        self.tanh_branch = nn.Linear(width, attention, bias=False)
        self.gate_branch = nn.Linear(width, attention, bias=False)
        self.score = nn.Linear(attention, 1, bias=False)
        self.head = nn.Linear(width, num_classes)

    def forward(self, instances: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (K,) of one bag of instances (N, D0), and its attention (N,), which sums to 1."""
        hidden = self.embed(instances)
        gated = self.tanh_branch(hidden).tanh() * self.gate_branch(hidden).sigmoid()
        attention = torch.softmax(self.score(gated)[:, 0], dim=0)
        return self.head(attention @ hidden), attention
