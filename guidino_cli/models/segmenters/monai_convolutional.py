"""MONAI's convolutional networks, cut at their bottlenecks: DynUNet, SegResNet, UNet++ and Attention U-Net."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from guidino_cli.models.base import Segmenter
from guidino_cli.models.layers import import_monai_nets, use_any_size_instance_norm


class DynUNet(Segmenter):
    """nnU-Net's plain U-Net (Isensee et al., 2021) as MONAI builds it: instance normalisation, leaky ReLU.

    Heads are at every resolution but the two coarsest, as in `nnunet`, which also has this network (`encoder: plain`);
    the upward convolutions have no bias here. 33.461 million parameters with 2 classes and without deep supervision.

    Args:
        num_classes: K, background included.
        in_channels: C.
        widths: Channels of each stage; every stage but the first halves the size. nnU-Net plans the number of stages
            by the image: 7 are for 256 px.
        deep_supervision: Whether the coarser heads exist.
    """

    net: Any
    output_layers: tuple[str, ...] = ("net.output_block", "net.deep_supervision_heads")

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 3,
        widths: Sequence[int] = (32, 64, 128, 256, 512, 512, 512),
        deep_supervision: bool = True,
    ) -> None:
        super().__init__()
        stages = len(widths)
        if stages < 4:
            raise ValueError(f"widths are {list(widths)}, expected 4 or more")
        self.stride = 2 ** (stages - 1)
        self.net = import_monai_nets("dynunet").DynUNet(
            spatial_dims=2,
            in_channels=in_channels,
            out_channels=num_classes,
            kernel_size=[3] * stages,
            strides=[1, *[2] * (stages - 1)],
            upsample_kernel_size=[2] * (stages - 1),
            filters=list(widths),
            deep_supervision=deep_supervision,
            deep_supr_num=stages - 3,
        )
        if not deep_supervision:
            self.output_layers = ("net.output_block",)
        # The same blocks under a second name: a file of weights would hold them twice.
        del self.net.skip_layers
        use_any_size_instance_norm(self.net)

    def encode(self, image: Tensor, dense: list[Tensor]) -> list[Tensor]:
        """A map of each stage: the image's size, then halved from stage to stage."""
        features = [self.net.input_block(image)]
        for block in (*self.net.downsamples, self.net.bottleneck):
            features.append(block(features[-1]))
        return features

    def decode(self, features: list[Tensor], size_hw: tuple[int, ...]) -> list[Tensor]:
        """Class scores at 1, 1/2, 1/4, ... of the image, or at image size alone."""
        *skips, x = features
        heads = [self.net.output_block, *(self.net.deep_supervision_heads if self.net.deep_supervision else [])]
        logits: list[Tensor] = []
        for level, up, skip in zip(reversed(range(len(skips))), self.net.upsamples, reversed(skips), strict=True):
            x = up(x, skip)
            if level < len(heads):
                logits.insert(0, heads[level](x))
        return logits


class SegResNet(Segmenter):
    """The residual encoder and light decoder that won BraTS 2018 (Myronenko, 2018), without its autoencoder branch.

    MONAI's network in two dimensions: 6.299 million parameters at width 32.

    Args:
        num_classes: K, background included.
        in_channels: C.
        width: Channels of the finest level, a multiple of 8 for the group normalisation; doubled at each coarser one.
        blocks_down: Residual blocks of each level; every level but the first halves the size.
        dropout: Share of values after the first convolution that are zeroed in training.
    """

    net: Any
    output_layers = ("net.conv_final.2",)

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 3,
        width: int = 32,
        blocks_down: Sequence[int] = (1, 2, 2, 4),
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        if width % 8 or width < 8 or len(blocks_down) < 2:
            found = f"width {width} and blocks_down {list(blocks_down)}"
            raise ValueError(f"{found}: expected a multiple of 8 and two levels or more")
        self.stride = 2 ** (len(blocks_down) - 1)
        self.net = import_monai_nets("segresnet").SegResNet(
            spatial_dims=self.dims,
            init_filters=width,
            in_channels=in_channels,
            out_channels=num_classes,
            dropout_prob=dropout,
            blocks_down=tuple(blocks_down),
            blocks_up=(1,) * (len(blocks_down) - 1),
        )

    def encode(self, image: Tensor, dense: list[Tensor]) -> list[Tensor]:
        """A map of each level: the image's size, then halved from level to level."""
        return list(self.net.encode(image)[1])

    def decode(self, features: list[Tensor], size_hw: tuple[int, ...]) -> list[Tensor]:
        """Class scores at image size: the map from below is upsampled and added to each level's map."""
        return [self.net.decode(features[-1], features[::-1])]


class SegResNet3d(SegResNet):
    """SegResNet for volumes, for which it was made: 18.796 million parameters at width 32, one channel, two classes."""

    dims = 3


class UNetPlusPlus(Segmenter):
    """UNet++ (Zhou et al., 2018): between encoder and decoder, every skip connection is a nest of small U-Nets.

    MONAI's `BasicUNetPlusPlus` with instance normalisation; 9.119 million parameters with 2 classes. With deep
    supervision it has a head on each of the four nested decoders, all at image size; the paper weighs them alike, here
    `train.loss` weighs the deepest most.

    Args:
        num_classes: K, background included.
        in_channels: C.
        widths: Channels of the five levels (the paper's), then those of the last node.
        deep_supervision: Whether the three shallower decoders have a head too.
    """

    stride = 16

    net: Any
    output_layers: tuple[str, ...] = (
        "net.final_conv_0_1",
        "net.final_conv_0_2",
        "net.final_conv_0_3",
        "net.final_conv_0_4",
    )

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 3,
        widths: Sequence[int] = (32, 64, 128, 256, 512, 32),
        deep_supervision: bool = True,
    ) -> None:
        super().__init__()
        if len(widths) != 6:
            raise ValueError(f"widths are {list(widths)}, expected six: five levels and the last node")
        net = import_monai_nets("unetpp").BasicUNetPlusPlus(2, in_channels, num_classes, tuple(widths))
        self.deep_supervision = deep_supervision
        if not deep_supervision:
            del net.final_conv_0_1, net.final_conv_0_2, net.final_conv_0_3
            self.output_layers = ("net.final_conv_0_4",)
        self.net = use_any_size_instance_norm(net)

    def encode(self, image: Tensor, dense: list[Tensor]) -> list[Tensor]:
        """The first node of each level: the image's size, then halved from level to level."""
        features = [self.net.conv_0_0(image)]
        for level in range(1, 5):
            features.append(self.net.get_submodule(f"conv_{level}_0")(features[-1]))
        return features

    def decode(self, features: list[Tensor], size_hw: tuple[int, ...]) -> list[Tensor]:
        """Class scores at image size, the deepest decoder's first.

        Node (i, j) sees all earlier nodes of its level i and what comes up from node (i + 1, j - 1).
        """
        nodes = [[feature] for feature in features]
        for column in range(1, 5):
            for level in range(5 - column):
                up = self.net.get_submodule(f"upcat_{level}_{column}")
                nodes[level].append(up(nodes[level + 1][column - 1], torch.cat(nodes[level], dim=1)))
        columns = (4, 3, 2, 1) if self.deep_supervision else (4,)
        return [self.net.get_submodule(f"final_conv_0_{column}")(nodes[0][column]) for column in columns]


class AttentionUNet(Segmenter):
    """Attention U-Net (Oktay et al., 2018): the level below gates each skip connection by attention.

    MONAI's network in two dimensions: 31.740 million parameters with 2 classes.

    Args:
        num_classes: K, background included.
        in_channels: C.
        widths: Channels of each level; every level but the first halves the size.
        dropout: Share of values after each convolution that are zeroed in training.
    """

    net: Any
    output_layers = ("net.model.2",)

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 3,
        widths: Sequence[int] = (64, 128, 256, 512, 1024),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if len(widths) < 2:
            raise ValueError(f"widths are {list(widths)}, expected two or more")
        self.stride = 2 ** (len(widths) - 1)
        net = import_monai_nets("attention-unet").AttentionUnet(
            2, in_channels, num_classes, tuple(widths), (2,) * (len(widths) - 1), dropout=dropout
        )
        self.net = use_any_size_instance_norm(net)

    def _levels(self) -> list[tuple[nn.Module, Any]]:
        """Downsampling part and attention of each level; MONAI nests each level in the one above."""
        found, level = [], self.net.model[1]
        for _ in range(len(self.net.channels) - 2):
            down, below = level.submodule
            found.append((down, level))
            level = below
        return [*found, (level.submodule, level)]

    def encode(self, image: Tensor, dense: list[Tensor]) -> list[Tensor]:
        """A map of each level: the image's size, then halved from level to level."""
        features = [self.net.model[0](image)]
        for down, _ in self._levels():
            features.append(down(features[-1]))
        return features

    def decode(self, features: list[Tensor], size_hw: tuple[int, ...]) -> list[Tensor]:
        """Class scores at image size."""
        *skips, x = features
        for (_, level), skip in zip(reversed(self._levels()), reversed(skips), strict=True):
            below = level.upconv(x)
            x = level.merge(torch.cat([level.attention(g=below, x=skip), below], dim=1))
        return [self.net.model[2](x)]
