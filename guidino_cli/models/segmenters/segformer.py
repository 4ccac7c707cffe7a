"""SegFormer (Xie et al., NeurIPS 2021): a hierarchical transformer without position codes, and a decoder of MLPs."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from guidino_cli.models.base import Segmenter
from guidino_cli.models.pretrained.strict_loading import load_pretrained

# Widths of the four stages, their blocks, and the decoder's width.
_SIZES = {
    "b0": ((32, 64, 160, 256), (2, 2, 2, 2), 256),
    "b1": ((64, 128, 320, 512), (2, 2, 2, 2), 256),
    "b2": ((64, 128, 320, 512), (3, 4, 6, 3), 768),
    "b3": ((64, 128, 320, 512), (3, 4, 18, 3), 768),
    "b4": ((64, 128, 320, 512), (3, 8, 27, 3), 768),
    "b5": ((64, 128, 320, 512), (3, 6, 40, 3), 768),
}


class SegFormer(Segmenter):
    """transformers' SegFormer; its class scores at 1/4 of the image are brought to image size bilinearly.

    Parameters with 2 classes, in millions: b0 3.715, b1 13.678, b2 27.348, b5 84.595. The paper starts from an encoder
    trained on ImageNet (`nvidia/mit-b2`); here it starts from `weights`, or at random.

    Args:
        num_classes: K, background included.
        in_channels: C.
        size: "b0" to "b5".
        weights: Folder in Hugging Face layout that holds a SegFormer encoder of this size; a head in it is left out.
        drop_path: Share of samples that skip the encoder's last block in training; less for the blocks before it.
    """

    # The reductions of keys and values then come out even at every stage.
    stride = 32
    net: Any
    output_layers = ("net.decode_head.classifier",)

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 3,
        size: str = "b2",
        weights: str | None = None,
        drop_path: float = 0.1,
    ) -> None:
        # Importing these takes a second that others need not pay.
        from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerModel

        super().__init__()
        if weights is not None and in_channels != 3:
            raise ValueError(f"weights are for 3 channels, but the images have {in_channels}: leave weights out")
        if size not in _SIZES:
            raise ValueError(f"size is '{size}', expected one of {', '.join(_SIZES)}")
        widths, depths, decoder_width = _SIZES[size]
        config = SegformerConfig(
            num_channels=in_channels,
            hidden_sizes=list(widths),
            depths=list(depths),
            decoder_hidden_size=decoder_width,
            drop_path_rate=drop_path,
        )
        config.num_labels = num_classes
        self.net = SegformerForSemanticSegmentation(config)
        if weights is not None:
            self.net.segformer = load_pretrained(SegformerModel, config, weights, heads=("classifier.", "decode_head."))

    def encode(self, image: Tensor, dense: list[Tensor]) -> list[Tensor]:
        """A map of each stage: 1/4, 1/8, 1/16 and 1/32 of the image."""
        return list(self.net.segformer(image, output_hidden_states=True).hidden_states)

    def decode(self, features: list[Tensor], size_hw: tuple[int, ...]) -> list[Tensor]:
        """Class scores at image size."""
        return [F.interpolate(self.net.decode_head(features), size=size_hw, mode="bilinear", align_corners=False)]
