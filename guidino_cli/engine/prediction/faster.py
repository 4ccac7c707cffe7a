"""The same network, rearranged for prediction: folded normalisation, and the order of memory that convolutions like."""

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from guidino_cli.models.composed import Model


def prepare_for_prediction(model: Model) -> Model:
    """Change a trained model in place, so that it predicts faster and can no longer be trained or saved.

    Batch normalisation is folded into the convolution before it, and the segmenter's weights lie channels-last.
    Class scores change by rounding only (measured on nnWNet: 4e-6 of scores of about 1).
    """
    fold_normalisation(model.segmenter.eval())
    model.segmenter.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def fold_normalisation(network: nn.Module) -> int:
    """Fold each batch normalisation into the convolution right before it in a `Sequential`; returns how many.

    Only there the order of computation is the order of the modules.
    """
    folded = 0
    for block in network.modules():
        if not isinstance(block, nn.Sequential):
            continue
        for i in range(len(block) - 1):
            first, second = block[i], block[i + 1]
            if type(first) is nn.Conv2d and type(second) is nn.BatchNorm2d and second.track_running_stats:
                block[i], block[i + 1] = fuse_conv_bn_eval(first, second), nn.Identity()
                folded += 1
    return folded
