"""guidino: medical image segmentation guided by a frozen vision foundation model."""

__version__ = "0.1.0"
