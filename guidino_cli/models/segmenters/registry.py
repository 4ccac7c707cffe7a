"""The registered segmenters, one row each: what builds them, lists them and tests them follows from the row.

Importing this module imports no network.
"""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ModelSize:
    """Size of a segmenter with two classes and its paper's options.

    Attributes:
        trainable: Parameters that are trained.
        total: With the frozen ones, and those of the backbone it reads.
        stride: Images are padded to multiples of it, of all axes alike or of each.
    """

    trainable: int
    total: int
    stride: int | tuple[int, ...]


@dataclass(frozen=True)
class ReferenceBackbone:
    """The backbone with which a segmenter's size is reported.

    Attributes:
        title: Its name.
        channels: D of each map that it gives, shallow to deep.
        heads: Attention heads of each of the twelve blocks of a DINOv3 ViT; 0 for another kind of backbone.
        strides: Pixels per cell of each map.
    """

    title: str
    channels: tuple[int, ...]
    heads: int = 0
    strides: tuple[int, ...] = (16, 16, 16, 16)


VIT_S = ReferenceBackbone("DINOv3 ViT-S/16", (384, 384, 384, 384), heads=6)
"""Four levels of the smallest published DINOv3, the authors' choice in GuiDINO and SegDINO."""
VIT_B = ReferenceBackbone("DINOv3 ViT-B/16", (768, 768, 768, 768), heads=12)
HIERA_L = ReferenceBackbone("SAM 2 Hiera-L", (144, 288, 576, 1152), strides=(4, 8, 16, 32))


@dataclass(frozen=True)
class SegmenterInfo:
    """One segmenter.

    Attributes:
        network: "module:Class" in this package.
        title: Its name as written in the literature.
        paper: First author, year, and where to find it.
        summary: One sentence: how it is built.
        use: One sentence: when to choose it.
        size: None for a name that stands for many networks.
        backbone: The reference backbone of a segmenter that reads one.
        guided_at: Places where a guide can act, from the outside in.
        needs: Extra to install (the name in `pip install 'guidino[...]'`), or None.
        dims: Axes of space: 2, or 3 for a network that segments volumes.
        not_deterministic: Functions of torch in it that have no deterministic kernel on CUDA for their gradient, or for
            their result (cumsum), so that `train.deterministic` ends; by `torch.use_deterministic_algorithms`.
        small: Options of a network that is small enough to be tested in many ways.
        changes: What was changed, one clause per change, so that the same settings and weights give other scores.
            A run records how many there were when it was trained; see `require_same_segmenter`.
    """

    network: str
    title: str
    paper: str
    summary: str
    use: str
    size: ModelSize | None = None
    backbone: ReferenceBackbone | None = None
    guided_at: tuple[str, ...] = ("input", "bottleneck", "features")
    needs: str | None = None
    dims: int = 2
    not_deterministic: tuple[str, ...] = ()
    small: dict[str, Any] = field(default_factory=dict)
    changes: tuple[str, ...] = ()


# Of a segmenter that does not read the image.
_WITHIN = ("bottleneck", "features")

SEGMENTER_INFO: dict[str, SegmenterInfo] = {
    "unet": SegmenterInfo(
        "unet:UNet",
        "U-Net",
        "Ronneberger et al. 2015, arXiv:1505.04597",
        "Four levels of down- and upsampling with skip connections, batch normalisation, width 32.",
        "The control for everything else; with a guide at its bottleneck it is GuiDINO-U.",
        size=ModelSize(trainable=7_763_074, total=7_763_074, stride=16),
        small={"width": 4},
    ),
    "nnwnet": SegmenterInfo(
        "nnwnet:NNWNet",
        "nnWNet",
        "Zhou et al. 2025, CVPR",
        "Two U-shaped networks in a row, joined by bridges with a wide receptive field.",
        "The GuiDINO paper's best network with a guide: with one at its input it is GuiDINO-W.",
        size=ModelSize(trainable=7_044_042, total=7_044_042, stride=16),
        small={"width": 4},
    ),
    "nnunet": SegmenterInfo(
        "nnunet:NNUNet",
        "nnU-Net (residual encoder)",
        "Isensee et al. 2021 and 2024, arXiv:2404.09556",
        "nnU-Net's residual encoder U-Net with deep supervision and instance normalisation.",
        "The baseline to beat; needs no pretrained weights.",
        size=ModelSize(trainable=71_816_136, total=71_816_136, stride=32),
        small={"widths": [4, 4, 8, 8, 8, 8], "blocks": [1, 2, 1, 1, 1, 1]},
    ),
    "segdino": SegmenterInfo(
        "segdino:SegDINO",
        "SegDINO",
        "Yang et al. 2025, arXiv:2509.00833",
        "A linear head on four levels of a frozen DINOv3; it does not read the image itself.",
        "Measures how good the backbone's features are with hardly any decoder.",
        size=ModelSize(trainable=2_476_450, total=24_072_994, stride=1),
        backbone=VIT_S,
        guided_at=_WITHIN,
    ),
    "seg-guidino": SegmenterInfo(
        "seg_guidino:SegGuiDINO",
        "Seg-GuiDINO",
        "GuiDINO 2026, section 3",
        "A convolutional head on DINOv3's deepest map, which the guide gates.",
        "A small trainable part and one pass of the backbone for guide and features.",
        size=ModelSize(trainable=1_476_098, total=23_072_642, stride=1),
        backbone=VIT_S,
        guided_at=_WITHIN,
    ),
    "dino-unet": SegmenterInfo(
        "dino_unet:DinoUNet",
        "Dino U-Net",
        "Gao et al. 2025, arXiv:2508.20909",
        "A convolutional pyramid that attends to four levels of a frozen DINOv3, as skip connections of a U-Net.",
        "Combines frozen features and pixels; needs a ViT with four levels.",
        size=ModelSize(trainable=6_194_560, total=27_791_104, stride=32),
        backbone=VIT_S,
        not_deterministic=("grid_sample",),
        small={"widths": [4, 4, 8, 8], "rank": 8},
    ),
    "swin-unet": SegmenterInfo(
        "swin_unet:SwinUNet",
        "Swin-Unet",
        "Cao et al. 2022, ECCV Workshops, arXiv:2105.05537",
        "A U-Net without convolutions: attention within shifted windows, with a Swin-T encoder and a mirrored decoder.",
        "A pure transformer as a baseline; from random weights it needs many images.",
        size=ModelSize(trainable=27_175_620, total=27_175_620, stride=32),
        small={"width": 4, "depths": [2, 1, 1, 1], "heads": [1, 1, 2, 2], "window": 4},
        changes=("its skips are what the stages of the encoder receive, not what they give",),
    ),
    "light2d": SegmenterInfo(
        "light2d:Light2D",
        "Light 2-D decoder",
        "Liu et al. 2025, arXiv:2509.06467, section 3.2",
        "Four convolutions with bilinear upsampling on the deepest map of a frozen DINOv3.",
        "The benchmark's probe of a backbone's dense features; with cached features it trains in minutes.",
        size=ModelSize(trainable=1_076_482, total=22_673_026, stride=1),
        backbone=VIT_S,
        guided_at=_WITHIN,
        small={"widths": [8, 4]},
    ),
    "dynunet": SegmenterInfo(
        "monai_convolutional:DynUNet",
        "DynUNet (nnU-Net's plain U-Net)",
        "Isensee et al. 2021, arXiv:1904.08128",
        "nnU-Net's plain U-Net in seven stages with deep supervision, as MONAI builds it.",
        "Comparisons with work that uses MONAI; otherwise `nnunet` does the same without the extra.",
        size=ModelSize(trainable=33_462_826, total=33_462_826, stride=64),
        needs="monai",
        small={"widths": [4, 4, 8, 8, 8]},
    ),
    "segresnet": SegmenterInfo(
        "monai_convolutional:SegResNet",
        "SegResNet",
        "Myronenko 2018, arXiv:1810.11654",
        "A residual encoder with group normalisation and a light decoder with additive skips.",
        "A light convolutional baseline that works with batches of one.",
        size=ModelSize(trainable=6_299_106, total=6_299_106, stride=8),
        needs="monai",
        small={"width": 8, "blocks_down": [1, 1, 1, 1]},
    ),
    "unetpp": SegmenterInfo(
        "monai_convolutional:UNetPlusPlus",
        "UNet++",
        "Zhou et al. 2018, arXiv:1807.10165",
        "A U-Net with nested skip connections and deep supervision.",
        "A frequently cited baseline; needs several times the memory of a U-Net.",
        size=ModelSize(trainable=9_119_464, total=9_119_464, stride=16),
        needs="monai",
        small={"widths": [4, 4, 4, 8, 8, 4]},
    ),
    "attention-unet": SegmenterInfo(
        "monai_convolutional:AttentionUNet",
        "Attention U-Net",
        "Oktay et al. 2018, arXiv:1804.03999",
        "A U-Net whose skip connections are gated by attention from the level below.",
        "Small targets in large images; a learned gate to compare a guide with.",
        size=ModelSize(trainable=31_740_402, total=31_740_402, stride=16),
        needs="monai",
        small={"widths": [4, 8, 8]},
    ),
    "unetr": SegmenterInfo(
        "monai_transformers:UNETR",
        "UNETR",
        "Hatamizadeh et al. 2022, WACV, arXiv:2103.10504",
        "A ViT/16 encoder from random weights; four of its blocks feed the skips of a convolutional decoder.",
        "A transformer baseline; without pretraining it needs many images.",
        size=ModelSize(trainable=87_708_930, total=87_727_362, stride=16),
        needs="monai",
        not_deterministic=("interpolate (bicubic)",),
        small={"image_size": 64, "width": 4, "hidden_size": 24, "mlp_size": 24, "heads": 2},
    ),
    "swin-unetr": SegmenterInfo(
        "monai_transformers:SwinUNETR",
        "Swin UNETR",
        "Hatamizadeh et al. 2022, arXiv:2201.01266",
        "A Swin transformer as encoder, with skip connections through residual blocks.",
        "The stronger of MONAI's two transformer baselines.",
        size=ModelSize(trainable=25_139_324, total=25_139_324, stride=32),
        needs="monai",
        small={"width": 12, "depths": [2, 1, 1, 1], "window": 4},
    ),
    "segformer": SegmenterInfo(
        "segformer:SegFormer",
        "SegFormer",
        "Xie et al. 2021, NeurIPS, arXiv:2105.15203",
        "A hierarchical transformer without position codes, sizes b0 to b5, and a decoder of linear layers.",
        "Fast for its size; best with an encoder pretrained on ImageNet (option `weights`).",
        size=ModelSize(trainable=27_348_162, total=27_348_162, stride=32),
        small={"size": "b0"},
    ),
    "upernet-swin": SegmenterInfo(
        "upernet_swin:UperNetSwin",
        "UperNet with Swin",
        "Xiao et al. 2018, arXiv:1807.10221, and Liu et al. 2021, arXiv:2103.14030",
        "Swin-T with pyramid pooling and a feature pyramid on top.",
        "The usual test of a pretrained Swin (option `weights`); large for small data.",
        size=ModelSize(trainable=59_827_902, total=59_829_438, stride=32),
        not_deterministic=("adaptive_avg_pool2d",),
        small={"width": 12, "depths": [2, 1, 1, 1], "window": 4, "decoder_width": 16},
    ),
    "meddinov3": SegmenterInfo(
        "meddinov3:MedDINOv3",
        "MedDINOv3",
        "Li et al. 2025, arXiv:2509.02379",
        "Four blocks of a DINOv3, concatenated and upsampled four times by transposed convolutions (Primus' decoder).",
        "Fine-tunes the whole ViT (model.finetune) at a high resolution: CT slices, a GPU, many images.",
        size=ModelSize(trainable=25_076_546, total=110_736_962, stride=1),
        backbone=VIT_B,
        guided_at=_WITHIN,
    ),
    "u-kan": SegmenterInfo(
        "ukan:UKAN",
        "U-KAN",
        "Li et al. 2025, AAAI, arXiv:2406.02918",
        "Three convolutional levels, then two levels of tokens with KAN layers (splines instead of weights).",
        "The smallest of the recent baselines; its authors train the splines with a separate learning rate.",
        size=ModelSize(trainable=6_356_706, total=6_356_706, stride=32),
        small={"widths": [16, 8, 8]},
    ),
    "u-mamba": SegmenterInfo(
        "u_mamba:UMamba",
        "U-Mamba",
        "Ma et al. 2024, arXiv:2401.04722",
        "nnU-Net's residual U-Net with a Mamba block on its deepest map, or on every second map.",
        "Context over the whole image at a cost that grows with its area, not its square.",
        size=ModelSize(trainable=47_514_506, total=47_514_506, stride=64),
        small={"widths": [8, 8, 8, 8], "states": 4},
        changes=("the finest map of its encoder is not joined",),
    ),
    "swin-umamba": SegmenterInfo(
        "swin_umamba:SwinUMamba",
        "Swin-UMamba-D",
        "Liu et al. 2024, MICCAI, arXiv:2402.03302",
        "A U-Net of VMamba blocks, which scan maps along rows and columns, forwards and backwards.",
        "Context over the whole image at every level; from random weights it needs many images.",
        size=ModelSize(trainable=27_490_758, total=27_490_758, stride=32),
        small={"width": 8, "depths": [1, 1, 1], "rising": 1, "states": 4},
        changes=("its stem is one convolution of 4 x 4 px with stride 4, and it has a head less",),
    ),
    "smp": SegmenterInfo(
        "smp:SMP",
        "Any of segmentation_models_pytorch",
        "Iakubovskii 2019, github.com/qubvel-org/segmentation_models.pytorch",
        "Architecture and encoder are part of the name, as in smp:Unet:resnet34; timm's encoders begin with tu-.",
        "Any network of that library, for comparison; encoders start from random weights.",
        needs="smp",
        small={"variant": "Unet:resnet18", "arguments": {"encoder_depth": 3, "decoder_channels": [8, 8, 8]}},
    ),
    "h2former": SegmenterInfo(
        "h2former:H2Former",
        "H2Former",
        "He et al. 2023, IEEE TMI, doi:10.1109/TMI.2023.3264513",
        "ResNet-34 stages alternating with multi-scale channel attention and shifted windows, and a light decoder.",
        "A hybrid of convolutions and attention; slow, because its first windows are at half the image's size.",
        size=ModelSize(trainable=33_692_640, total=33_692_640, stride=16),
        small={"width": 8, "convs": [1, 1, 1, 1], "depths": [2, 1, 1, 1], "heads": [1, 2, 2, 2], "window": 4},
        changes=("its decoder, merging and channel attention are its authors'",),
    ),
    "trans-unet": SegmenterInfo(
        "trans_unet:TransUNet",
        "TransUNet",
        "Chen et al. 2021, arXiv:2102.04306",
        "A ResNet-50 down to 1/16, twelve ViT blocks, and a convolutional decoder with three skip connections.",
        "The classic hybrid; 105 million parameters, and made to start from ImageNet weights.",
        size=ModelSize(trainable=105_322_146, total=105_322_146, stride=16),
        not_deterministic=("interpolate (bicubic)",),
        small={
            "width": 8,
            "convs": [1, 1, 1],
            "hidden_size": 16,
            "depth": 1,
            "heads": 2,
            "mlp_size": 16,
            "decoder": [8, 8, 4, 4],
            "image_size": 32,
        },
        changes=("its maps are enlarged with aligned corners, and norms and padding of its ResNet are its authors'",),
    ),
    "sam2-unet": SegmenterInfo(
        "sam2_unet:SAM2UNet",
        "SAM2-UNet",
        "Xiong et al. 2024, arXiv:2408.08870",
        "Receptive field blocks on four levels of SAM 2's encoder, frozen except for adapters, and a light decoder.",
        "Uses another foundation model than DINOv3; its authors train it for 20 epochs on endoscopy and photographs.",
        size=ModelSize(trainable=4_269_942, total=216_419_238, stride=1),
        backbone=HIERA_L,
        guided_at=_WITHIN,
        small={"width": 8},
        changes=("coarser maps are joined with aligned corners",),
    ),
    "dilated-cnn": SegmenterInfo(
        "dilated_cnn:DilatedCNN",
        "Dilated CNN",
        "Yu and Koltun 2016, ICLR, arXiv:1511.07122",
        "Four blocks of dilated 3 x 3 convolutions of 24 channels with group normalisation, at one resolution.",
        "Refines a guide at `logits` in a minute of training; alone it sees 21 pixels and learns little.",
        size=ModelSize(trainable=21_746, total=21_746, stride=1),
        small={"width": 8},
    ),
    "guided-filter": SegmenterInfo(
        "guided_filter:GuidedFilter",
        "Guided filter",
        "He et al. 2010, ECCV",
        "Not a network: the guide's maps, aligned with the edges of the image and cut at an adaptive threshold.",
        "Masks from 5 to 20 labelled images in seconds: `guidino fewshot` solves for guide and thresholds.",
        size=ModelSize(trainable=2, total=2, stride=3),
        guided_at=("logits",),
        not_deterministic=("cumsum", "grid_sample"),
    ),
    "light3d": SegmenterInfo(
        "light3d:Light3D",
        "Light 3-D decoder",
        "Liu et al. 2025, arXiv:2509.06467, section 3.2",
        "A frozen DINOv3's maps of every slice, stacked to a volume, and four 3-D convolutions with skips.",
        "The DINOv3 benchmark's decoder of 2-D features for volumes; in its paper it scores lower than nnU-Net.",
        size=ModelSize(trainable=917_986, total=22_514_530, stride=1),
        backbone=VIT_S,
        guided_at=_WITHIN,
        dims=3,
        small={"widths": [8, 8, 4, 4]},
    ),
    "nnunet3d": SegmenterInfo(
        "nnunet:NNUNet3d",
        "nnU-Net 3-D (residual encoder)",
        "Isensee et al. 2021 and 2024, arXiv:2404.09556",
        "nnU-Net's residual or plain U-Net for volumes, with strides and kernels to match the spacing of the data.",
        "The baseline to beat on volumes; needs no pretrained weights.",
        size=ModelSize(trainable=102_350_856, total=102_350_856, stride=32),
        dims=3,
        not_deterministic=("avg_pool3d",),
        small={
            "widths": [4, 4, 8, 8],
            "blocks": [1, 2, 1, 1],
            "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 2, 2]],
            "kernels": [[1, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3]],
        },
    ),
    "nnwnet3d": SegmenterInfo(
        "nnwnet:NNWNet3d",
        "nnWNet 3-D",
        "Zhou et al. 2025, CVPR",
        "Two U-shaped 3-D networks in a row, joined by bridges with a wide receptive field.",
        "For a guide at the input, on volumes with nearly isotropic voxels.",
        size=ModelSize(trainable=53_235_530, total=53_235_530, stride=16),
        dims=3,
        not_deterministic=("avg_pool3d",),
        small={"widths": [4, 4, 8, 8, 8]},
    ),
    "primus": SegmenterInfo(
        "primus:Primus",
        "Primus",
        "Wald et al. 2025, arXiv:2503.01835",
        "A plain ViT over patches of 8 x 8 x 8 voxels with rotary position codes, and three transposed convolutions.",
        "A transformer that comes close to nnU-Net on volumes; needs a GPU and many volumes.",
        size=ModelSize(trainable=152_906_138, total=152_906_138, stride=8),
        dims=3,
        small={"width": 24, "depth": 2, "heads": 2, "image_size": 32},
    ),
    "unet3d": SegmenterInfo(
        "monai_volumes:UNet3d",
        "3-D U-Net",
        "Çiçek et al. 2016, arXiv:1606.06650",
        "MONAI's light U-Net for volumes: every level except the last halves the size first.",
        "First results on volumes within minutes, also on a CPU.",
        size=ModelSize(trainable=1_980_474, total=1_980_474, stride=16),
        needs="monai",
        dims=3,
        small={"widths": [4, 8, 8]},
    ),
    "vnet": SegmenterInfo(
        "monai_volumes:VNet",
        "V-Net",
        "Milletari et al. 2016, arXiv:1606.04797",
        "Residual levels of 5 x 5 x 5 convolutions; its paper introduced the Dice loss.",
        "A frequently cited baseline; slow for its accuracy.",
        size=ModelSize(trainable=45_603_898, total=45_603_898, stride=16),
        needs="monai",
        dims=3,
    ),
    "segresnet3d": SegmenterInfo(
        "monai_convolutional:SegResNet3d",
        "SegResNet 3-D",
        "Myronenko 2018, arXiv:1810.11654",
        "A residual 3-D encoder with group normalisation and a light decoder with additive skips.",
        "Batches of one volume, and comparisons with MONAI's Auto3DSeg.",
        size=ModelSize(trainable=18_797_730, total=18_797_730, stride=8),
        needs="monai",
        dims=3,
        small={"width": 8, "blocks_down": [1, 1, 1]},
    ),
    "unetr3d": SegmenterInfo(
        "monai_transformers:UNETR3d",
        "UNETR 3-D",
        "Hatamizadeh et al. 2022, WACV, arXiv:2103.10504",
        "A ViT over patches of 16 x 16 x 16 voxels; four of its blocks feed the skips of a convolutional decoder.",
        "A transformer baseline; without pretraining it needs many volumes.",
        size=ModelSize(trainable=99_076_194, total=99_094_626, stride=16),
        needs="monai",
        dims=3,
        small={"image_size": 32, "width": 4, "hidden_size": 24, "mlp_size": 24, "heads": 2},
    ),
    "swin-unetr3d": SegmenterInfo(
        "monai_transformers:SwinUNETR3d",
        "Swin UNETR 3-D",
        "Hatamizadeh et al. 2022, arXiv:2201.01266",
        "A Swin transformer over windows of a volume, with skip connections through residual blocks.",
        "The stronger of MONAI's two transformers; the slowest network here.",
        size=ModelSize(trainable=62_190_164, total=62_190_164, stride=32),
        needs="monai",
        dims=3,
        small={"width": 12, "depths": [2, 1, 1, 1], "window": 2},
    ),
}

SEGMENTERS = {name: f"{__package__}.{row.network}" for name, row in SEGMENTER_INFO.items()}
"""Name -> "module:Class", for `guidino_cli.registry`."""


def segmenter_dims(name: str) -> int:
    """Axes of space of what a registered segmenter takes: 2 or 3; `smp:Unet:resnet34` is a variant of `smp`."""
    return SEGMENTER_INFO[name.partition(":")[0]].dims


def segmenter_revision(name: str) -> int:
    """Number of a segmenter's present form, from 1; `smp:Unet:resnet34` is a variant of `smp`."""
    return 1 + len(SEGMENTER_INFO[name.partition(":")[0]].changes)
