"""How large each registered segmenter is: counted once, as counting takes the seconds that its libraries take.

A test counts again.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
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
SIZES: dict[str, Size] = {
    "unet": Size(7_763_074, 7_763_074, 16),
    "nnwnet": Size(7_044_042, 7_044_042, 16),
    "nnunet": Size(71_816_136, 71_816_136, 32),
    "segdino": Size(2_476_450, 24_072_994, 1),
    "seg-guidino": Size(1_476_098, 23_072_642, 1),
    "dino-unet": Size(6_194_560, 27_791_104, 32),
    "swin-unet": Size(27_175_620, 27_175_620, 32),
    "light2d": Size(1_076_482, 22_673_026, 1),
    "dynunet": Size(33_462_826, 33_462_826, 64),
    "segresnet": Size(6_299_106, 6_299_106, 8),
    "unetpp": Size(9_119_464, 9_119_464, 16),
    "attention-unet": Size(31_740_402, 31_740_402, 16),
    "unetr": Size(87_708_930, 87_727_362, 16),
    "swin-unetr": Size(25_139_324, 25_139_324, 32),
    "segformer": Size(27_348_162, 27_348_162, 32),
    "upernet-swin": Size(59_827_902, 59_829_438, 32),
    "meddinov3": Size(25_076_546, 110_736_962, 1),
    "u-kan": Size(6_356_706, 6_356_706, 32),
    "u-mamba": Size(47_524_746, 47_524_746, 64),
    "swin-umamba": Size(27_512_552, 27_512_552, 32),
    "h2former": Size(33_564_141, 33_564_141, 16),
    "trans-unet": Size(105_322_146, 105_322_146, 16),
    "sam2-unet": Size(4_269_942, 216_419_238, 1),
}
