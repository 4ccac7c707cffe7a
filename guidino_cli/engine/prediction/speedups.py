"""Speed-ups of a trained network: folded batch normalisation, channels-last memory and oneDNN kernels."""

from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from guidino_cli.models.composed import Model

Network = TypeVar("Network", bound=nn.Module)


def prepare_for_prediction(model: Model) -> Model:
    """Change a trained model in place to predict faster; it can no longer be trained or saved.

    Batch normalisation is folded into the convolution before it, and the segmenter's weights are channels-last, unless
    it takes volumes: in that order nnU-Net's three-dimensional network took 1.2 times as long, nnWNet's 0.7.
    Logits change by rounding only (measured on nnWNet: 4e-6 of logits of about 1).
    """
    fold_normalisation(model.segmenter.eval())
    use_onednn_kernels(model.segmenter)
    if model.segmenter.dims == 2:
        model.segmenter.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


_FOLDED = {(nn.Conv2d, nn.BatchNorm2d), (nn.Conv3d, nn.BatchNorm3d)}


def fold_normalisation(network: nn.Module) -> int:
    """Fold each batch normalisation into the convolution right before it in a `Sequential`; returns the number folded.

    Only in a `Sequential` the order of the modules is known to be the order of computation.
    """
    folded = 0
    for block in network.modules():
        if not isinstance(block, nn.Sequential):
            continue
        for i in range(len(block) - 1):
            first, second = block[i], block[i + 1]
            if (type(first), type(second)) in _FOLDED and second.track_running_stats:
                fold: Any = fuse_conv_bn_eval
                block[i], block[i + 1] = fold(first, second), nn.Identity()
                folded += 1
    return folded


def use_onednn_kernels(network: Network) -> Network:
    """Compute GELU and 1x1 convolutions by oneDNN on a CPU, in place, where torch would choose slower kernels."""
    for module in network.modules():
        if type(module) is nn.GELU:
            module.__class__ = _OneDnnGelu
        elif type(module) is nn.Conv2d and module.kernel_size == (1, 1) and module.padding == (0, 0):
            module.__class__ = _OneDnnConv1x1
    return network


class _OneDnnGelu(nn.GELU):
    """GELU by oneDNN for channels-last tensors too; torch's own kernel takes 1.5 times as long."""

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
            return super().forward(x.movedim(1, -1)).movedim(-1, 1)
        return super().forward(x)


class _OneDnnConv1x1(nn.Conv2d):
    """1x1 convolution by oneDNN; with one thread torch's own kernel for small batches takes 1.3 to 3 times as long."""

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or x.dtype != torch.float32 or not torch.backends.mkldnn.is_available():
            return super().forward(x)
        return torch.mkldnn_convolution(x, self.weight, self.bias, (0, 0), self.stride, self.dilation, self.groups)
