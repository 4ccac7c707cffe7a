"""UperNet on a Swin transformer (Xiao et al., ECCV 2018; Liu et al., ICCV 2021): a pyramid of features and of pools."""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from guidino_cli.errors import ConfigError
from guidino_cli.models.base import Segmenter
from guidino_cli.models.pretrained.strict_loading import load_pretrained


class UperNetSwin(Segmenter):
    """transformers' UperNet with its Swin backbone, by default Swin-T as in the Swin paper.

    59.829 million parameters with 2 classes and the auxiliary head. Windows are padded to their size, so any image
    size will do. The paper starts from a Swin trained on ImageNet (`microsoft/swin-tiny-patch4-window7-224`); here it
    starts from `weights`, or at random. Swin-S has depths 2, 2, 18, 2; Swin-B also width 128 and heads 4, 8, 16, 32.

    Args:
        num_classes: K, background included.
        in_channels: C.
        width: Channels of the finest stage; doubled at each coarser one.
        depths: Blocks of each of the four stages.
        heads: Attention heads of each stage.
        window: Side of a window in tokens.
        decoder_width: Channels of the head.
        weights: Folder in Hugging Face layout that holds a Swin transformer of these options; a head in it is left
            out.
        deep_supervision: Whether the auxiliary head on the third stage exists.
        drop_path: Share of samples that skip the encoder's last block in training; less for the blocks before it.
    """

    stride = 32
    net: Any
    output_layers: tuple[str, ...] = ("net.decode_head.classifier", "net.auxiliary_head.classifier")

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 3,
        width: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        heads: Sequence[int] = (3, 6, 12, 24),
        window: int = 7,
        decoder_width: int = 512,
        weights: str | None = None,
        deep_supervision: bool = True,
        drop_path: float = 0.2,
    ) -> None:
        # Importing these takes a second that others need not pay.
        from transformers import SwinBackbone, SwinConfig, UperNetConfig, UperNetForSemanticSegmentation

        super().__init__()
        if weights is not None and in_channels != 3:
            raise ValueError(f"weights are for 3 channels, but the images have {in_channels}: leave weights out")
        if len(depths) != 4 or len(heads) != 4:
            raise ValueError(f"depths {list(depths)} and heads {list(heads)}, expected four of each")
        swin = SwinConfig(
            num_channels=in_channels,
            embed_dim=width,
            depths=list(depths),
            num_heads=list(heads),
            window_size=window,
            drop_path_rate=drop_path,
        )
        swin.set_output_features_output_indices(out_indices=[1, 2, 3, 4], out_features=None)
        config = UperNetConfig(
            backbone_config=swin,
            hidden_size=decoder_width,
            auxiliary_in_channels=4 * width,
            auxiliary_channels=decoder_width // 2,
            use_auxiliary_head=deep_supervision,
        )
        config.num_labels = num_classes
        self.net = UperNetForSemanticSegmentation(config)
        if not deep_supervision:
            self.output_layers = ("net.decode_head.classifier",)
        if weights is not None:
            # UperNet normalises each stage's map anew.
            self.net.backbone = load_pretrained(
                SwinBackbone, swin, weights, heads=("classifier.", "swin.layernorm."), fresh=("hidden_states_norms.",)
            )
        # It belongs to Swin's own head; nothing here reads what it gives.
        self.net.backbone.swin.layernorm.requires_grad_(False)

    def encode(self, image: Tensor, dense: list[Tensor]) -> list[Tensor]:
        """A map of each stage: 1/4, 1/8, 1/16 and 1/32 of the image."""
        return list(self.net.backbone(image).feature_maps)

    def decode(self, features: list[Tensor], size_hw: tuple[int, ...]) -> list[Tensor]:
        """Class scores at image size, and the auxiliary head's at 1/16.

        Raises:
            ConfigError: Training with one image a batch.
        """
        if self.training and len(features[0]) == 1:
            raise ConfigError(
                "segmenter upernet-swin normalises over the images of a batch: found 1, expected 2 or more; "
                "set train.batch_size"
            )
        logits = F.interpolate(self.net.decode_head(features), size=size_hw, mode="bilinear", align_corners=False)
        return [logits, *([self.net.auxiliary_head(features)] if self.net.auxiliary_head is not None else [])]
