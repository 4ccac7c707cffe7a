"""What each registered segmenter is, in words: for lists and pages, without importing a network."""

from dataclasses import dataclass


@dataclass(frozen=True)
class About:
    """A segmentation network as its authors know it.

    Attributes:
        title: Its name as written in the field.
        paper: First author, year, and where to find it.
        summary: One sentence: how it is built.
        use: One sentence: when to choose it.
        needs: Extra to install (the name in `pip install 'guidino[...]'`), or None.
    """

    title: str
    paper: str
    summary: str
    use: str
    needs: str | None = None


ZOO: dict[str, About] = {
    "unet": About(
        "U-Net",
        "Ronneberger et al. 2015, arXiv:1505.04597",
        "Four times down and up with skip connections, batch normalisation, width 32.",
        "The control for everything else; with a guide at its bottleneck it is GuiDINO-U.",
    ),
    "nnwnet": About(
        "nnWNet",
        "Zhou et al., CVPR 2025",
        "Two U-shaped passes in a row, joined by bridges of wide context.",
        "The paper's best partner of a guide: with one at its input it is GuiDINO-W.",
    ),
    "nnunet": About(
        "nnU-Net (residual encoder)",
        "Isensee et al. 2021 and 2024, arXiv:2404.09556",
        "nnU-Net's residual encoder U-Net with deep supervision and instance normalisation.",
        "The baseline to beat; needs no pretrained weights.",
    ),
    "segdino": About(
        "SegDINO",
        "Yang et al. 2025, arXiv:2509.00833",
        "A linear head on four levels of a frozen DINOv3; it does not read the image itself.",
        "How far the backbone's features go with hardly any decoder.",
    ),
    "seg-guidino": About(
        "Seg-GuiDINO",
        "GuiDINO 2026, section 3",
        "A convolutional head on DINOv3's deepest map, which the guide gates.",
        "A small trainable part and one pass of the backbone for guide and features.",
    ),
}
