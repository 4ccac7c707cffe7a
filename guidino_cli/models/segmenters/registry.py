"""The registered segmenters: names, papers, sizes, and where a guide can act; no network is imported."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelSize:
    """A segmenter with two classes and its paper's options.

    Attributes:
        trainable: Weights that learn.
        total: With the frozen ones, and those of the backbone it reads.
        stride: Images are padded to multiples of it.
    """

    trainable: int
    total: int
    stride: int


# None of smp: each network of that library has its own.
MODEL_SIZES: dict[str, ModelSize] = {
    "unet": ModelSize(7_763_074, 7_763_074, 16),
    "nnwnet": ModelSize(7_044_042, 7_044_042, 16),
    "nnunet": ModelSize(71_816_136, 71_816_136, 32),
    "segdino": ModelSize(2_476_450, 24_072_994, 1),
    "seg-guidino": ModelSize(1_476_098, 23_072_642, 1),
    "dino-unet": ModelSize(6_194_560, 27_791_104, 32),
    "swin-unet": ModelSize(27_175_620, 27_175_620, 32),
    "light2d": ModelSize(1_076_482, 22_673_026, 1),
    "dynunet": ModelSize(33_462_826, 33_462_826, 64),
    "segresnet": ModelSize(6_299_106, 6_299_106, 8),
    "unetpp": ModelSize(9_119_464, 9_119_464, 16),
    "attention-unet": ModelSize(31_740_402, 31_740_402, 16),
    "unetr": ModelSize(87_708_930, 87_727_362, 16),
    "swin-unetr": ModelSize(25_139_324, 25_139_324, 32),
    "segformer": ModelSize(27_348_162, 27_348_162, 32),
    "upernet-swin": ModelSize(59_827_902, 59_829_438, 32),
    "meddinov3": ModelSize(25_076_546, 110_736_962, 1),
    "u-kan": ModelSize(6_356_706, 6_356_706, 32),
    "u-mamba": ModelSize(47_524_746, 47_524_746, 64),
    "swin-umamba": ModelSize(27_512_552, 27_512_552, 32),
    "h2former": ModelSize(33_564_141, 33_564_141, 16),
    "trans-unet": ModelSize(105_322_146, 105_322_146, 16),
    "sam2-unet": ModelSize(4_269_942, 216_419_238, 1),
}


@dataclass(frozen=True)
class ReferenceBackbone:
    """The backbone with which a network's size is told.

    Attributes:
        title: Its name.
        channels: D of each map that it gives, shallow to deep.
        heads: Attention heads of each of the twelve blocks of a DINOv3 ViT; 0 for another kind of backbone.
        strides: Pixels of a cell of each map.
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
    """A segmentation network as its authors know it.

    Attributes:
        title: Its name as written in the field.
        paper: First author, year, and where to find it.
        summary: One sentence: how it is built.
        use: One sentence: when to choose it.
        needs: Extra to install (the name in `pip install 'guidino[...]'`), or None.
        backbone: Of a network that reads one.
        guided_at: Places where a guide can act, from the outside in.
    """

    title: str
    paper: str
    summary: str
    use: str
    needs: str | None = None
    backbone: ReferenceBackbone | None = None
    guided_at: tuple[str, ...] = ("input", "bottleneck", "features")


# Of a network that does not read the image.
_WITHIN = ("bottleneck", "features")

SEGMENTER_INFO: dict[str, SegmenterInfo] = {
    "unet": SegmenterInfo(
        "U-Net",
        "Ronneberger et al. 2015, arXiv:1505.04597",
        "Four times down and up with skip connections, batch normalisation, width 32.",
        "The control for everything else; with a guide at its bottleneck it is GuiDINO-U.",
    ),
    "nnwnet": SegmenterInfo(
        "nnWNet",
        "Zhou et al. 2025, CVPR",
        "Two U-shaped passes in a row, joined by bridges of wide context.",
        "The paper's best partner of a guide: with one at its input it is GuiDINO-W.",
    ),
    "nnunet": SegmenterInfo(
        "nnU-Net (residual encoder)",
        "Isensee et al. 2021 and 2024, arXiv:2404.09556",
        "nnU-Net's residual encoder U-Net with deep supervision and instance normalisation.",
        "The baseline to beat; needs no pretrained weights.",
    ),
    "segdino": SegmenterInfo(
        "SegDINO",
        "Yang et al. 2025, arXiv:2509.00833",
        "A linear head on four levels of a frozen DINOv3; it does not read the image itself.",
        "How far the backbone's features go with hardly any decoder.",
        backbone=VIT_S,
        guided_at=_WITHIN,
    ),
    "seg-guidino": SegmenterInfo(
        "Seg-GuiDINO",
        "GuiDINO 2026, section 3",
        "A convolutional head on DINOv3's deepest map, which the guide gates.",
        "A small trainable part and one pass of the backbone for guide and features.",
        backbone=VIT_S,
        guided_at=_WITHIN,
    ),
    "dino-unet": SegmenterInfo(
        "Dino U-Net",
        "Gao et al. 2025, arXiv:2508.20909",
        "A convolutional pyramid that asks four levels of a frozen DINOv3, projected into a U-Net's skip connections.",
        "The most that frozen features and pixels give together; needs a ViT with four levels.",
        backbone=VIT_S,
    ),
    "swin-unet": SegmenterInfo(
        "Swin-Unet",
        "Cao et al. 2022, ECCV Workshops, arXiv:2105.05537",
        "A U-Net without convolutions: attention within shifted windows, down as in Swin-T, up as its mirror image.",
        "The plain transformer among the baselines; from random weights it wants many images.",
    ),
    "light2d": SegmenterInfo(
        "Light 2-D decoder",
        "Liu et al. 2025, arXiv:2509.06467, section 3.2",
        "Four convolutions with bilinear upsampling on the deepest map of a frozen DINOv3.",
        "The benchmark's probe of a backbone's dense features; with cached features it trains in minutes.",
        backbone=VIT_S,
        guided_at=_WITHIN,
    ),
    "dynunet": SegmenterInfo(
        "DynUNet (nnU-Net's plain U-Net)",
        "Isensee et al. 2021, arXiv:1904.08128",
        "nnU-Net's plain U-Net in seven stages with deep supervision, as MONAI builds it.",
        "Comparisons with work that uses MONAI; otherwise `nnunet` does the same without the extra.",
        needs="monai",
    ),
    "segresnet": SegmenterInfo(
        "SegResNet",
        "Myronenko 2018, arXiv:1810.11654",
        "A residual encoder with group normalisation and a decoder that only adds.",
        "A light convolutional baseline that does not mind batches of one.",
        needs="monai",
    ),
    "unetpp": SegmenterInfo(
        "UNet++",
        "Zhou et al. 2018, arXiv:1807.10165",
        "A U-Net whose skip connections are nests of smaller U-Nets, each with a head of its own.",
        "A baseline that many papers quote; wants several times the memory of a U-Net.",
        needs="monai",
    ),
    "attention-unet": SegmenterInfo(
        "Attention U-Net",
        "Oktay et al. 2018, arXiv:1804.03999",
        "A U-Net in which what comes from below decides what of each skip connection passes.",
        "Small targets in large images; a learned gate to compare a guide with.",
        needs="monai",
    ),
    "unetr": SegmenterInfo(
        "UNETR",
        "Hatamizadeh et al. 2022, WACV, arXiv:2103.10504",
        "A ViT/16 encoder from random weights, four of its depths as skip connections of a convolutional decoder.",
        "A transformer baseline; without pretraining it wants many images.",
        needs="monai",
    ),
    "swin-unetr": SegmenterInfo(
        "Swin UNETR",
        "Hatamizadeh et al. 2022, arXiv:2201.01266",
        "A Swin transformer as encoder, its maps as skip connections through residual blocks.",
        "The stronger of MONAI's two transformer baselines.",
        needs="monai",
    ),
    "segformer": SegmenterInfo(
        "SegFormer",
        "Xie et al. 2021, NeurIPS, arXiv:2105.15203",
        "A hierarchical transformer without position codes, sizes b0 to b5, and a decoder of linear layers.",
        "Fast for its size; best with an encoder pretrained on ImageNet (option `weights`).",
    ),
    "upernet-swin": SegmenterInfo(
        "UperNet with Swin",
        "Xiao et al. 2018, arXiv:1807.10221, and Liu et al. 2021, arXiv:2103.14030",
        "Swin-T with pyramid pooling and a feature pyramid above it.",
        "The usual test of a pretrained Swin (option `weights`); large for small data.",
    ),
    "meddinov3": SegmenterInfo(
        "MedDINOv3",
        "Li et al. 2025, arXiv:2509.02379",
        "Four blocks of a DINOv3 side by side, doubled four times by transposed convolutions (Primus' decoder).",
        "A ViT that is trained whole (model.finetune) at a high resolution: slices of CT, a GPU, many images.",
        backbone=VIT_B,
        guided_at=_WITHIN,
    ),
    "u-kan": SegmenterInfo(
        "U-KAN",
        "Li et al. 2025, AAAI, arXiv:2406.02918",
        "Three convolutional levels, then two of tokens that are mixed by splines instead of weights (KAN layers).",
        "The smallest of the recent baselines; its authors train the splines with a rate of their own.",
    ),
    "u-mamba": SegmenterInfo(
        "U-Mamba",
        "Ma et al. 2024, arXiv:2401.04722",
        "nnU-Net's residual U-Net whose deepest map, or every second, is read cell by cell by a Mamba block.",
        "Context over the whole image at a cost that grows with its area, not its square.",
    ),
    "swin-umamba": SegmenterInfo(
        "Swin-UMamba-D",
        "Liu et al. 2024, MICCAI, arXiv:2402.03302",
        "Swin-Unet's shape with VMamba's blocks: maps are scanned along rows and columns, forwards and backwards.",
        "Context over the whole image at every level; from random weights it wants many images.",
    ),
    "smp": SegmenterInfo(
        "Any of segmentation_models_pytorch",
        "Iakubovskii 2019, github.com/qubvel-org/segmentation_models.pytorch",
        "Architecture and encoder are part of the name, as in smp:Unet:resnet34; timm's encoders begin with tu-.",
        "A network of that library beside the others; encoders start from random weights.",
        needs="smp",
    ),
    "h2former": SegmenterInfo(
        "H2Former",
        "He et al. 2023, IEEE TMI, doi:10.1109/TMI.2023.3264513",
        "ResNet-34 stages, channel attention over several scales and shifted windows in turn, under a U-Net's decoder.",
        "Convolutions and attention on equal terms; slow, for its first windows are at half the image's size.",
    ),
    "trans-unet": SegmenterInfo(
        "TransUNet",
        "Chen et al. 2021, arXiv:2102.04306",
        "A ResNet-50 down to a sixteenth, twelve ViT blocks over its cells, and convolutions with three skips back up.",
        "The classic hybrid; 105 million parameters, and made to start from ImageNet weights.",
    ),
    "sam2-unet": SegmenterInfo(
        "SAM2-UNet",
        "Xiong et al. 2024, arXiv:2408.08870",
        "Receptive field blocks on four levels of SAM 2's encoder, frozen but for adapters, and a light U-Net above.",
        "Another foundation model than DINOv3: its authors train it for 20 epochs on endoscopy and photographs.",
        backbone=HIERA_L,
        guided_at=_WITHIN,
    ),
}
