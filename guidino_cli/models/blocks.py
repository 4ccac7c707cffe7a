"""Blocks of nnU-Net's kind, from which several architectures are built."""

from torch import Tensor, nn

SLOPE = 0.01


class InstanceNorm(nn.InstanceNorm2d):
    """Affine instance normalisation that also takes a single cell, whose normalised value is 0.

    torch refuses that, but the deepest map of an image no larger than the stride is a single cell.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2:] == (1, 1):
            return (x - x) * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
        return super().forward(x)


def conv_stage(channels_in: int, channels_out: int, *, count: int, stride: int = 1) -> nn.Sequential:
    """`count` 3x3 convolutions with norm and activation; the first has the stride."""
    first = conv_norm_act(channels_in, channels_out, stride=stride)
    return nn.Sequential(first, *(conv_norm_act(channels_out, channels_out) for _ in range(count - 1)))


def conv_norm_act(channels_in: int, channels_out: int, *, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, instance normalisation, leaky ReLU."""
    conv = nn.Conv2d(channels_in, channels_out, kernel, stride=stride, padding=kernel // 2)
    return nn.Sequential(conv, InstanceNorm(channels_out), nn.LeakyReLU(SLOPE, inplace=True))


def initialise_he(module: nn.Module) -> None:
    """He's initialisation of convolutions, for leaky ReLU; biases are 0."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.kaiming_normal_(module.weight, a=SLOPE)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
